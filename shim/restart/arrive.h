/* SPDX-License-Identifier: MIT */
/*
 * Arriving: checks the state of the last generation, makes it orphans, watches for readiness, and closes what is not
 * claimed.
 */
#ifndef CPR_RESTART_ARRIVE_H
#define CPR_RESTART_ARRIVE_H

#include "model/state.h"
#include "restart/awaited.h"
#include "restart/generation.h"

#include <stdbool.h>

/*
 * Reads CPR_STATE_FD of this environment into *state, and removes the variable. Without it, state->generation is 0. An
 * invalid state is named in the log, and the program starts as if there were none.
 */
void arrive_read(struct state *state);

/* Makes the table: of orphans, or empty. Takes the table out of *state. Returns 0, or -ENOMEM. */
int arrive_adopt(struct state *state);

/* Removes the files of --unlink: after the exec, which may fail, and before the program looks for them. */
void arrive_remove_files(void);

/* From now on the task looks after the arrival. */
void arrive_begin(void);

/* The program is about to wait, in any thread, for what awaited.h says. */
void arrive_waiting(enum awaited awaited);

/* That wait is over. */
void arrive_waited(void);

/* Does it matter what the next wait is for? Not once this process has waited for work. */
bool arrive_asks(void);

/* There is an orphan again: looks after it. Any thread, not holding the guard. */
void arrive_again(void);

/*
 * The program is about to read from something that is no connection. That is a wait for work if it has claimed the
 * descriptor: a datagram socket, a FIFO, a device.
 */
void arrive_receiving(int fd);

#endif
