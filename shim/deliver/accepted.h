/* SPDX-License-Identifier: MIT */
/* Accepted: a carried connection takes the place of the knock that the program has accepted. */
#ifndef CPR_DELIVER_ACCEPTED_H
#define CPR_DELIVER_ACCEPTED_H

#include <sys/socket.h>

/*
 * accept() on `listener` gave *fd. 0: a client. 1: a knock; a carried connection stands at *fd, which may be another
 * number now, and addr, len (may be NULL) name its peer. -1: a knock, and nothing left to carry: *fd is closed, accept
 * again. `flags` as accept4's. Keeps errno.
 */
int deliver_accepted(int listener, int *fd, int flags, struct sockaddr *addr, socklen_t *len);

/* The program has written on this connection, and deliver_waiting is on. Keeps errno. */
void deliver_wrote(int fd);

#endif
