/* SPDX-License-Identifier: MIT */
/* A worker's part in a drain of several processes, and what it says to its owner. */
#ifndef CPR_RESTART_DRAIN_WORKER_H
#define CPR_RESTART_DRAIN_WORKER_H

#include "base/io.h"
#include "model/tag.h"
#include "model/protocol.h"

#include <stdbool.h>
#include <stdint.h>

enum { WORKER_PASSED_MAX = 1 << 16 }; /* connections in one drain */

/*
 * One message a listener, with its descriptor, or a batch of connections of one listener, with theirs; the last message
 * has none, and the worker's counts. (A message of 4 KiB for each connection filled the socket after 26 of them, and
 * then waited for the owner's next look: 200 us a connection.)
 */
struct drain_worker_message {
	uint32_t last;
	/* the descriptor is a socket that this worker has bound: kind, flags and backlog are its entry's */
	uint32_t listener;
	uint32_t kind, flags;
	int32_t backlog;
	uint64_t path_dev, path_ino;
	uint32_t count;   /* of connections */
	uint64_t inos[IO_FDS_MAX];
	int32_t id;       /* of the listener's tag; name empty: to be closed */
	uint32_t cut;
	uint32_t empty;   /* it serves connections, and this was all */
	uint64_t listener_ino; /* of the listener, where its name says nothing to the owner; 0: it does */
	uint32_t by_address;   /* the worker knows no listener: the connection's own address tells */
	char name[TAG_NAME_MAX + 1];
};

/* Once, when the library starts. */
void drain_worker_init(void);

/*
 * The same for a process that was exec'ed with its owner's listener, or is given its connections, and has no page of
 * its owner's: it is told by a request (PROTOCOL_DRAIN), on a connection that stays open. NULL: it is in that drain
 * now, and `sock` is the worker's. Else why not. Before it is told: has it anything to do with that drain? By the
 * handler.
 */
bool drain_worker_is_concerned(const struct protocol_request *request);
const char *drain_worker_told(int sock, const struct protocol_request *request);
bool drain_worker_is_told(void);

/* In a child: the drain that its parent was in, as a worker, is not its own. */
void drain_worker_forget(void);

#endif
