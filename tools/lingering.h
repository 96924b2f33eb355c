/* SPDX-License-Identifier: MIT */
/*
 * Closes the connections of a server without the library in good order. At its signal to leave, a server closes idle
 * connections. If a request has arrived and is unread, the kernel answers close(2) with RST. So we hold a duplicate of
 * each connection meanwhile: close(2) in the server then sends nothing, and we send FIN.
 */
#ifndef CPR_LINGERING_H
#define CPR_LINGERING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct lingering; /* a list: of each server that leaves */

/*
 * Takes duplicates of the connections that these processes accepted on listeners with these keys (protocol_key), as far
 * as possible. Call it before the processes get their signal to leave.
 */
void lingering_begin(struct lingering **all, const pid_t *pids, size_t pid_count, const uint64_t *keys,
		     size_t key_count);

/* Checks which were closed, when that is due. */
void lingering_tick(struct lingering **all, int64_t now);

/*
 * After the signal: does nothing else for some milliseconds. In this time a server closes most of them. What the
 * supervisor has to report and write after a handover takes longer than a client waits before its next request.
 * `between` is called before each check, at least every few milliseconds, for urgent work; it may not fork.
 */
void lingering_watch(struct lingering **all, void (*between)(void *), void *arg);

/* Returns when lingering_tick is due (CLOCK_MONOTONIC, ns); 0: never. */
int64_t lingering_due(const struct lingering *all);

#endif
