/* SPDX-License-Identifier: MIT */
/* Doors: private sockets and pipes that take the place of a listener or a FIFO while its gate is closed. */
#ifndef CPR_FD_DOOR_H
#define CPR_FD_DOOR_H

#include "fd/entry.h"

#include <stdbool.h>

enum { DOOR_BACKLOG = 65535 }; /* the kernel cuts it to somaxconn */

/*
 * The task and wrappers may call these functions; the program's signal handlers may not. They may change errno.
 *
 * Binds fd to a private address of the object's family, which only the supervisor learns. 0, or -errno.
 */
int door_bind(int fd, const struct object *object);

/* A new socket of the same kind, bound in the same way; a stream socket also listens. The descriptor, or -errno. */
int door_make(const struct object *like, bool nonblock);

/* The door of a FIFO: a pipe that is never readable and has no end of file. The descriptor, or -errno. */
int door_make_silent_pipe(bool nonblock);

#endif
