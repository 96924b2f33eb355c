/* SPDX-License-Identifier: MIT */
/* Arriving: what the last generation left is checked and becomes orphans; readiness; the end of what is not claimed. */
#ifndef CPR_RESTART_ARRIVE_H
#define CPR_RESTART_ARRIVE_H

#include "model/state.h"
#include "restart/generation.h"

#include <poll.h>
#include <stdbool.h>

/*
 * Reads CPR_STATE_FD of this environment into *state, and removes the variable. With generation 0 if there was none. A
 * state that is not sound is named in the log, and the program starts as if there were none.
 */
void arrive_read(struct state *state);

/* Makes the table: of orphans, or empty. The state's table is moved there. 0, or -ENOMEM. */
int arrive_adopt(struct state *state);

/* -u: not before the exec, which may fail, but before the program looks for these files. */
void arrive_remove_files(void);

/* From here on the arrival is looked after. */
void arrive_begin(void);

/* The program is about to wait for events, in any thread: it is as ready as it will be. */
void arrive_waiting(void);

/* Once more: there is an orphan again. Any thread, without the guard. */
void arrive_again(void);

/*
 * The program is about to read what is no connection. That is a wait for work where it has claimed this descriptor: a
 * datagram socket, a FIFO, a device.
 */
void arrive_receiving(int fd);

/*
 * False: all of it are connections that this process has made. A server that asks a database, or the manager for the
 * name of its user, waits for answers before it has bound anything: that shows no readiness. Not const: gcc takes
 * that for a read of what poll(2) would only write.
 */
bool arrive_polls_work(struct pollfd *fds, nfds_t n);

#endif
