/* SPDX-License-Identifier: MIT */
/* Queue lengths of listeners: raised while no process accepts, and the program's own again after that. */
#ifndef CPR_RESTART_BACKLOG_H
#define CPR_RESTART_BACKLOG_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The kept listeners' queues: as long as the system allows, or as long as the program said. The first is for the time
 * in which no process accepts.
 */
void backlog_raise(bool raise);

/* The same, holding the guard. */
void backlog_raise_all(bool raise);

/*
 * What listen() is to be called with: the program's own number, or the greatest one for a claimed listener whose queue
 * is not worked off yet.
 */
int backlog_for(int fd, int backlog);

/*
 * Sets claimed listeners back to the last generation's own number. Some servers (haproxy) see that the socket listens
 * and do not call listen() again.
 */
void backlog_lower_claimed(void);

/*
 * A gate was opened at this time (CLOCK_MONOTONIC, ns), with greatest queues: they are lowered by a look, a while
 * later. 0: none was. The task's, as the look: ms until the next one; 0: there is nothing to lower.
 */
void backlog_lower_later(int64_t opened_at);
int backlog_look(int64_t now);

#endif
