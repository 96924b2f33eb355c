/* SPDX-License-Identifier: MIT */
/* The socket back to the caller. Knows nothing of requests. */
#ifndef CPR_PROCESS_CALLER_H
#define CPR_PROCESS_CALLER_H

#include <stddef.h>
#include <stdint.h>

/*
 * Connects to the caller that rang with this nonce, and makes sure that it is root or this process's own user. Returns
 * the socket, at a high number, close-on-exec and O_NONBLOCK; or -errno: -EAGAIN, its backlog is full at the moment;
 * -EPERM, a stranger. The task's; keeps no errno.
 */
int caller_connect(uint64_t nonce);

/*
 * The same, and a full backlog is waited for: all workers of a server connect at once, and each has something that is
 * lost if it does not. For a second at the most. The task's; keeps no errno.
 */
int caller_connect_in_turn(uint64_t nonce);

/* Sends and receives on such a socket wait from now on, for PROTOCOL_TIMEOUT_MS at most. */
void caller_wait_on(int sock);

/* The process at the other end; 0: the kernel does not say. */
int caller_pid(int sock);

/* One message to the caller of this nonce, then goodbye. A caller that is gone is no error. Keeps errno. */
void caller_report(uint64_t nonce, const void *bytes, size_t n);

#endif
