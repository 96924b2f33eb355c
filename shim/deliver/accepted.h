/* SPDX-License-Identifier: MIT */
/* Accepted: a carried connection takes the place of the knock that the program has accepted. */
#ifndef CPR_DELIVER_ACCEPTED_H
#define CPR_DELIVER_ACCEPTED_H

#include <sys/socket.h>

/*
 * Call it when accept() on `listener` gave *fd. Returns 0: a client. 1: a knock; *fd is now the carried connection,
 * perhaps at another number, and addr, len (may be NULL) have its peer. -1: a knock, and no carried connection is left:
 * *fd is closed, accept again. `flags` as in accept4. Keeps errno.
 */
int deliver_accepted(int listener, int *fd, int flags, struct sockaddr *addr, socklen_t *len);

/* The program has written on this connection while deliver_waiting is true. Keeps errno. */
void deliver_wrote(int fd);

#endif
