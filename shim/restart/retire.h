/* SPDX-License-Identifier: MIT */
/* Workers of the last generation: told to leave, waited for, killed if they would not. */
#ifndef CPR_RESTART_RETIRE_H
#define CPR_RESTART_RETIRE_H

#include "model/state.h"

/* What the last generation left behind. */
void retire_adopt(const struct worker *workers, size_t n);

/* Is this one of them? The task's, as all here. */
bool retire_knows(int pid);

/* Those that have not been told yet look at the page at once: page_let_go. */
void retire_ring(const struct worker *workers, size_t n);

/* This generation serves from `now` on (CLOCK_MONOTONIC, ns): they are told by a look, a moment later. */
void retire_tell_soon(int64_t now);

/* A look at them, from the tick. True when none is left, or none was told. */
bool retire_is_over(int64_t now);

/* Those that are not gone yet, for the next state; at the most `most`. How many. */
size_t retire_unfinished(struct worker *into, size_t most);

#endif
