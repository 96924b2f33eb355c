/* SPDX-License-Identifier: MIT */
/* Arriving: what the last generation left is checked and becomes orphans; readiness; the end of what nobody claims. */
#ifndef CPR_RESTART_ARRIVE_H
#define CPR_RESTART_ARRIVE_H

#include "model/state.h"

#include <stdbool.h>

/*
 * Reads CPR_STATE_FD of this environment, removes it, and makes the table: of orphans, or empty. The state (its heirlooms) into *state, with
 * generation 0 if there was none. A state that is not sound is named in the log, and the program starts as if there were none.
 */
void arrive_read(struct state *state);

/* After the doorbell hangs: from here on readiness can be told. Takes what it needs of *state; then free that. */
void arrive_begin(const struct state *state);

/* The program execs itself before it is ready: who waits for that is told by the next image. */
void arrive_hand_on(struct state *state);

int arrive_generation(void);
int64_t arrive_first_at(void);   /* CLOCK_MONOTONIC, ns: when generation 1 started */
int64_t arrive_started_at(void); /* … this one */
bool arrive_is_ready(void);

struct arrive_last { /* of the restart that made this generation */
	int64_t took_us, drain_us;
	uint32_t carried, closed, cut;
};
struct arrive_last arrive_last(void);

/* Does anybody wait for this generation to be ready, or a worker for its retirement, or an orphan for its claim? */
extern _Atomic bool arrive_watch;

/* The program is about to wait for events, in any thread: it is as ready as it will be. */
void arrive_waiting(void);

/* What listen() is to be called with: the program's own number, or, for a claimed listener, the system's greatest until the queue that grew while nobody
   accepted is worked off. */
int arrive_backlog(int fd, int backlog);

/* The timer's part: readiness without a sign, grace, retired workers. A signal handler calls it. */
void arrive_tick(void);

#endif
