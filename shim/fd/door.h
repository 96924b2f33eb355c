/* SPDX-License-Identifier: MIT */
/* Doors: sockets and pipes that stand for a listener or a FIFO while its gate is closed. */
#ifndef CPR_FD_DOOR_H
#define CPR_FD_DOOR_H

#include "fd/entry.h"

#include <stdbool.h>

enum { DOOR_BACKLOG = 65535 }; /* the kernel cuts it to somaxconn */

/*
 * All of these are for the task and for wrappers, not for handlers of the program; they may change errno.
 *
 * Binds a socket to a private address of its family, which nothing connects to but the supervisor. 0, or -errno.
 */
int door_bind(int fd, const struct object *object);

/* A socket like that one, so bound and, unless it is of datagrams, listening. The descriptor, or -errno. */
int door_make(const struct object *like, bool nonblock);

/* For a FIFO: one that says nothing. The descriptor, or -errno. */
int door_make_silent_pipe(bool nonblock);

#endif
