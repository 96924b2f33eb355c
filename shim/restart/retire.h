/* SPDX-License-Identifier: MIT */
/* Workers of the last generation: signals them to leave, waits, and kills those that do not. */
#ifndef CPR_RESTART_RETIRE_H
#define CPR_RESTART_RETIRE_H

#include "model/state.h"

/* Takes over the list of the last generation. */
void retire_adopt(const struct worker *workers, size_t n);

/* Is this one of them? Only the task calls this and the others here. */
bool retire_knows(int pid);

/* Rings those that have no signal yet: they look at the page at once (page_let_go). */
void retire_ring(const struct worker *workers, size_t n);

/* This generation serves from `now` on (CLOCK_MONOTONIC, ns): a look signals them a moment later. */
void retire_tell_soon(int64_t now);

/* A look at them, from the tick. Returns true if none is left, or none has its signal. */
bool retire_is_over(int64_t now);

/* Writes those that are not gone yet into `into`, for the next state, `most` at most. Returns how many. */
size_t retire_unfinished(struct worker *into, size_t most);

#endif
