/* SPDX-License-Identifier: MIT */
/* Freezing: holds connections between two requests while a drain is on. */
#ifndef CPR_DRAIN_FREEZE_H
#define CPR_DRAIN_FREEZE_H

#include "process/active_calls.h"
#include "fd/conn.h"

#include <sys/epoll.h>

/* Once, at the start. */
void freeze_init(void);

/*
 * Freezes it, and sends FIN if it is not carried. Returns false if a request has come already, or may be coming: that
 * is served first. `view` is the result of conn_look, or CONN_IN_PROGRESS if the kernel was not asked.
 */
bool freeze_conn(int fd, struct conn *c, enum conn_view view, const struct active_call *me);

/* Is a thread (other than `me`) inside a read on it? */
bool freeze_is_being_read(int fd, const struct conn *c, const struct active_call *me);

/* Thaws it. Does nothing if it is not frozen. */
void freeze_undo(struct conn *c);

/* on: removes tagged listeners from their epoll sets; else adds them again. */
void freeze_listeners(bool on);

/* Removes everything with a gate from its epoll sets; the other adds what is at its number then. Holding the guard. */
void freeze_move_out(void);
void freeze_move_in(void);

/* Removes the socket at `fd` from all sets: it is open elsewhere, and its number is about to be closed. */
void freeze_unregister(int fd);

/*
 * Counts these moves. A registration that began before a move and ended after it may refer to the earlier socket: then
 * it is made again.
 */
extern _Atomic unsigned freeze_moves;
void freeze_register_anew(int epfd, int fd, struct epoll_event event);

/* Has this process a listener in an epoll set? */
bool freeze_knows_listeners(void);

/*
 * For epoll_ctl(2) of a connection or a tagged listener: notes it. While it is frozen, only notes it, and returns true:
 * return 0 to the program.
 */
bool freeze_epoll(int epfd, int op, int fd, const struct epoll_event *event);

#endif
