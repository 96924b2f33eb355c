/* SPDX-License-Identifier: MIT */
/*
 * The end of a server's connections in good order, where nothing is preloaded into it. A server that is told to leave
 * closes what is idle. If a request has come that it has not read, the kernel answers close(2) with RST. So we hold
 * a duplicate of each connection meanwhile: close(2) in the server then sends nothing, and we send FIN.
 */
#ifndef CPR_LINGERING_H
#define CPR_LINGERING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct lingering; /* a list: of each server that leaves */

/*
 * Takes duplicates of the connections that these processes have accepted on listeners with these keys (protocol_key),
 * as far as they can be had. To be called before the processes are told to leave.
 */
void lingering_begin(struct lingering **all, const pid_t *pids, size_t pid_count, const uint64_t *keys,
		     size_t key_count);

/* Looks what was closed, where that is due. */
void lingering_tick(struct lingering **all, int64_t now);

/*
 * Once they were told: does nothing else for some milliseconds. In this time a server closes most of them, and what the
 * supervisor has to say and to write after a handover takes longer than a client waits before its next request.
 * `between` is called before each look, some milliseconds apart at the most, for what cannot wait; it may not fork.
 */
void lingering_watch(struct lingering **all, void (*between)(void *), void *arg);

/* When it is to be called again (CLOCK_MONOTONIC, ns); 0: never. */
int64_t lingering_due(const struct lingering *all);

#endif
