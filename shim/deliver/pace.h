/* SPDX-License-Identifier: MIT */
/* Pace: decides how many knocks to make at once, and when the next ones. Holding the guard. */
#ifndef CPR_DELIVER_PACE_H
#define CPR_DELIVER_PACE_H

#include "deliver/family.h"

/* Restarts the slow start. */
void pace_begin(void);

/* Does this process knock for the family? */
bool pace_knocks_for(const struct family *f);

/* Knocks for as many as the program may get now. `listener` is NULL if this process has left it to its workers. */
void pace_knock(struct family *f, const struct entry *listener);

/* May the program be about to accept knocks? */
bool pace_is_awaited(void);

/*
 * Returns the ms until the next look, while there is something to knock for. A program that is slow to accept is looked
 * at less often than every 2 ms.
 */
int pace_next_look(void);

#endif
