/* SPDX-License-Identifier: MIT */
/* Grace: closes what is not claimed in time. */
#ifndef CPR_RESTART_GRACE_H
#define CPR_RESTART_GRACE_H

#include "model/table.h"

#include <stdbool.h>

/* Returns when grace ends: CLOCK_MONOTONIC, ns. */
int64_t grace_end(void);

/* Returns when something is to be closed next: at that end, or at the end for what the program itself has closed. */
int64_t grace_next(int64_t now);

/* Is this an orphan that this generation is expected to claim? */
bool grace_is_unclaimed(const struct entry *e);

/* Returns the number of those. */
size_t grace_unclaimed(void);

/* After grace, closes what was not claimed; its deliverer closes what is still `carrying`. */
void grace_look(int64_t now, bool carrying);

#endif
