/* SPDX-License-Identifier: MIT */
/* Pace: how many knocks at once, and when the next ones. Holding the guard. */
#ifndef CPR_DELIVER_PACE_H
#define CPR_DELIVER_PACE_H

#include "deliver/family.h"

/* The slow start anew. */
void pace_begin(void);

/* Is it this process that knocks for them? */
bool pace_knocks_for(const struct family *f);

/*
 * Knocks for as many as the program may be given now. `listener` is NULL when this process has left it to its workers.
 */
void pace_knock(struct family *f, const struct entry *listener);

/* Are there knocks that the program may be about to accept? */
bool pace_is_awaited(void);

/*
 * ms until the next look, while there is something to knock for. A program that is slow to take what it is given is not
 * looked at every 2 ms for it.
 */
int pace_next_look(void);

#endif
