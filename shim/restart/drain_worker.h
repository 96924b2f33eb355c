/* SPDX-License-Identifier: MIT */
/* A worker's part in a drain of several processes, and its messages to its owner. */
#ifndef CPR_RESTART_DRAIN_WORKER_H
#define CPR_RESTART_DRAIN_WORKER_H

#include "base/io.h"
#include "model/tag.h"
#include "model/protocol.h"

#include <stdbool.h>
#include <stdint.h>

enum { WORKER_PASSED_MAX = 1 << 16 }; /* connections in one drain */

/*
 * One message for each listener, with its descriptor, or for a batch of connections of one listener. The last message
 * has no descriptor, and the worker's counts. (One message of 4 KiB for each connection filled the socket after 26 of
 * them, and the next waited for the owner's look: 200 us a connection.)
 */
struct drain_worker_message {
	uint32_t last;
	/* the descriptor is a socket that this worker bound, with its entry's kind, flags and backlog */
	uint32_t listener;
	uint32_t kind, flags;
	int32_t backlog;
	uint64_t path_dev, path_ino;
	uint32_t count;   /* of connections */
	uint64_t inos[IO_FDS_MAX];
	int32_t id;       /* of the listener's tag; an empty name: close the connections */
	uint32_t cut;
	uint32_t empty;   /* the worker serves connections, and has passed all on */
	uint64_t listener_ino; /* of a listener whose name the owner does not know; 0: it does */
	uint32_t by_address;   /* the worker has no listener: use the connection's own address */
	char name[TAG_NAME_MAX + 1];
};

/* Once, when the library starts. */
void drain_worker_init(void);

/*
 * For a process that was exec'ed with its owner's listener, or is given its connections, and does not share its owner's
 * page. It gets a request (PROTOCOL_DRAIN), on a connection that stays open. drain_worker_asked returns NULL if the
 * process is in that drain now, and owns `sock`; else the reason. drain_worker_is_concerned: does that drain concern it
 * at all? In the handler.
 */
bool drain_worker_is_concerned(const struct protocol_request *request);
const char *drain_worker_told(int sock, const struct protocol_request *request);
bool drain_worker_is_told(void);

/* In a child: leaves the drain in which its parent was, as a worker. */
void drain_worker_forget(void);

#endif
