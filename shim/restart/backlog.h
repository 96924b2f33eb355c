/* SPDX-License-Identifier: MIT */
/* Queue lengths of listeners: raised while no process accepts, and restored to the program's own afterwards. */
#ifndef CPR_RESTART_BACKLOG_H
#define CPR_RESTART_BACKLOG_H

#include <stdbool.h>
#include <stdint.h>

/*
 * true: makes the queues of kept listeners as long as the system allows, for the time in which no process accepts.
 * false: as long as the program asked for.
 */
void backlog_raise(bool raise);

/* The same, holding the guard. */
void backlog_raise_all(bool raise);

/*
 * Returns the backlog for listen(): the program's own, or the maximum for a claimed listener whose queue is not empty
 * yet.
 */
int backlog_for(int fd, int backlog);

/*
 * Restores the last generation's own backlog on claimed listeners. Some servers (haproxy) see that the socket listens,
 * and do not call listen() again.
 */
void backlog_lower_claimed(void);

/*
 * A gate was opened at this time (CLOCK_MONOTONIC, ns) with maximum queues, which a look lowers a while later; 0: none
 * was. The look returns the ms until the next one; 0: there is nothing to lower. Only the task calls these.
 */
void backlog_lower_later(int64_t opened_at);
int backlog_look(int64_t now);

#endif
