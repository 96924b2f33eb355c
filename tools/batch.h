/* SPDX-License-Identifier: MIT */
/* Batches of descriptors on the connection to a generation. */
#ifndef CPR_BATCH_H
#define CPR_BATCH_H

#include "model/protocol.h"

#include <stdbool.h>

struct batch {
	struct protocol_batch head;
	int fds[PROTOCOL_BATCH_MAX]; /* -1: none, or taken */
};

/* Returns an empty batch of this kind. */
struct batch batch_empty(enum protocol_batch_kind kind);

/*
 * Receives one batch without waiting. Returns 1; 0: the line has ended; -EAGAIN: none yet; -ENOMSG: text ("result=");
 * -EBADMSG: anything else, or a batch cut by our limit of descriptors; -errno.
 */
int batch_receive(int line, struct batch *batch);

/* The same, and waits until `until` (io_now): then -ETIME. */
int batch_await(int line, struct batch *batch, int64_t until);

/* Sends it with its descriptors, which stay open here. Returns 0; -EAGAIN: the line is full; -errno. */
int batch_send(int line, const struct batch *batch);

void batch_close(struct batch *batch);

#endif
