/* SPDX-License-Identifier: MIT */
/* The socket back to the caller. Knows nothing of requests. */
#ifndef CPR_PROCESS_CALLER_H
#define CPR_PROCESS_CALLER_H

#include <stddef.h>
#include <stdint.h>

/*
 * Connects to the caller that rang with this nonce. Checks that it is root or this process's own user. Returns the
 * socket, at a high number, close-on-exec and O_NONBLOCK; or -errno: -EAGAIN if its backlog is full at the moment,
 * -EPERM for another user. Only the task calls it. Does not keep errno.
 */
int caller_connect(uint64_t nonce);

/*
 * The same, and waits a second at most for room in the backlog: all workers of a server connect at once, and a worker
 * that fails loses connections. Only the task calls it. Does not keep errno.
 */
int caller_connect_in_turn(uint64_t nonce);

/* From now on, sends and receives on the socket block, PROTOCOL_TIMEOUT_MS at most. */
void caller_wait_on(int sock);

/* Returns the pid of the process at the other end; 0: the kernel does not tell. */
int caller_pid(int sock);

/* Sends one message to the caller of this nonce, and closes. It is no error if the caller is gone. Keeps errno. */
void caller_report(uint64_t nonce, const void *bytes, size_t n);

#endif
