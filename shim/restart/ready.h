/* SPDX-License-Identifier: MIT */
/* Readiness: when this generation serves, and the answer to the caller that requested the restart. */
#ifndef CPR_RESTART_READY_H
#define CPR_RESTART_READY_H

#include "model/state.h"

#include <stdbool.h>

/* At the start: takes the waiting caller from the state, with the times and counts for its answer. */
void ready_await(const struct state *state);

/* The program execs itself before it is ready: its next image answers the caller. */
void ready_hand_on(struct state *state);

bool ready_reached(void);
int64_t ready_at(void); /* CLOCK_MONOTONIC, ns; 0 in generation 1, which is ready from the start */

/* Does a caller wait for the answer? */
bool ready_is_awaited(void);

/*
 * A look, in the owner. `awaited`: what the waits are for that have begun since the last one (bits of enum awaited).
 * `still`: one is on, and none has ended.
 */
void ready_look(unsigned awaited, bool still);

struct ready_last { /* of the restart that made this generation */
	int64_t took_us, drain_us;
	uint32_t carried, closed, cut;
};
struct ready_last ready_last(void);

#endif
