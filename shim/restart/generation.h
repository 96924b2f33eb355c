/* SPDX-License-Identifier: MIT */
/* The number of this generation, its start, and whether it has arrived. */
#ifndef CPR_RESTART_GENERATION_H
#define CPR_RESTART_GENERATION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* At the start: this is generation 1, and starts now. */
void generation_begins(void);

/* This generation follows `last`; generation 1 started at first_at. */
void generation_follows(int last, int64_t first_at);

int generation_number(void);
int64_t generation_first_at(void);   /* CLOCK_MONOTONIC, ns: when generation 1 started */
int64_t generation_started_at(void); /* … this one */

/* The task still waits for this generation: for readiness, a worker's end, or an orphan's claim. */
extern _Atomic bool generation_is_settling;

#endif
