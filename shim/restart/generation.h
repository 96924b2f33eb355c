/* SPDX-License-Identifier: MIT */
/* Which generation this is, since when, and whether it has arrived. */
#ifndef CPR_RESTART_GENERATION_H
#define CPR_RESTART_GENERATION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* At the start: this is generation 1, and starts now. */
void generation_begins(void);

/* It is the one after `last`; generation 1 started at first_at. */
void generation_follows(int last, int64_t first_at);

int generation_number(void);
int64_t generation_first_at(void);   /* CLOCK_MONOTONIC, ns: when generation 1 started */
int64_t generation_started_at(void); /* … this one */

/* Something waits for this generation: its readiness is, a worker's retirement, or an orphan's claim. */
extern _Atomic bool generation_is_settling;

#endif
