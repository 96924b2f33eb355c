/* SPDX-License-Identifier: MIT */
/* Batches of descriptors over the line to a generation. */
#ifndef CPR_BATCH_H
#define CPR_BATCH_H

#include "model/protocol.h"

#include <stdbool.h>

struct batch {
	struct protocol_batch head;
	int fds[PROTOCOL_BATCH_MAX]; /* -1: none, or taken */
};

/* One of this kind, with nothing in it. */
struct batch batch_empty(enum protocol_batch_kind kind);

/* One batch that is there. 1; 0: the line has ended; -EAGAIN: none yet; -ENOMSG: words ("result="); -EBADMSG: something
 * else, or cut by our limit of descriptors; -errno. */
int batch_receive(int line, struct batch *batch);

/* The same, awaited until `until` (io_now): -ETIME. */
int batch_await(int line, struct batch *batch, int64_t until);

/* Sends it with its descriptors, which stay open here. 0; -EAGAIN: the line is full; -errno. */
int batch_send(int line, const struct batch *batch);

void batch_close(struct batch *batch);

#endif
