/* SPDX-License-Identifier: MIT */
/* Freezing: what stands between two requests is held there while a drain is on. */
#ifndef CPR_DRAIN_FREEZE_H
#define CPR_DRAIN_FREEZE_H

#include "process/active_calls.h"
#include "fd/conn.h"

#include <sys/epoll.h>

/* Once, at the start. */
void freeze_init(void);

/*
 * True: it is frozen, and if it is not to be carried, its end is sent. False: a request has come already, or may be
 * coming, and is served first. `view` is what conn_look said of it, or CONN_IN_PROGRESS if the kernel was not asked.
 */
bool freeze_conn(int fd, struct conn *c, enum conn_view view, const struct active_call *me);

/* Is a thread (other than `me`) inside a read on it? */
bool freeze_is_being_read(int fd, const struct conn *c, const struct active_call *me);

/* As it was before; nothing happens to one that is not frozen. */
void freeze_undo(struct conn *c);

/* Tagged listeners leave the epoll sets that they are in, and come back. */
void freeze_listeners(bool on);

/*
 * What the gate can close on leaves its epoll sets, and comes back with what stands at its number then. Holding the
 * guard.
 */
void freeze_move_out(void);
void freeze_move_in(void);

/* The socket at `fd` leaves all sets, for good: it lives on, and its number is about to be closed. */
void freeze_unregister(int fd);

/*
 * How often that was. A registration that began before and ended behind it may have been made for what stood there
 * before, and be gone: then it is made anew.
 */
extern _Atomic unsigned freeze_moves;
void freeze_register_anew(int epfd, int fd, struct epoll_event event);

/* Has this process a listener in an epoll set? */
bool freeze_knows_listeners(void);

/*
 * epoll_ctl(2) of a connection or a tagged listener: remembered; and while it is frozen, only remembered. True: that
 * was all, say 0.
 */
bool freeze_epoll(int epfd, int op, int fd, const struct epoll_event *event);

#endif
