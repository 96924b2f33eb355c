/* SPDX-License-Identifier: MIT */
/* Batches of descriptors over the line to a generation. */
#define _GNU_SOURCE
#include "batch.h"

#include "base/attr.h"
#include "base/io.h"
#include "patience.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
	char room[CMSG_SPACE(PROTOCOL_BATCH_MAX * sizeof(int))];
	struct cmsghdr align;
};

static size_t collect(struct msghdr *message, int fds[PROTOCOL_BATCH_MAX])
{
	size_t used = 0;

	for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR(message, head)) {
		size_t n = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS || used + n > PROTOCOL_BATCH_MAX)
			continue;
		memcpy(fds + used, CMSG_DATA(head), n * sizeof(int));
		used += n;
	}
	return used;
}

int batch_receive(int line, struct batch *batch)
{
	union control control;
	struct iovec bytes = {&batch->head, sizeof(batch->head)};
	struct msghdr message = {
		.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	size_t got;
	ssize_t n;

	for (size_t i = 0; i < PROTOCOL_BATCH_MAX; i++)
		batch->fds[i] = -1;
	do
		n = recvmsg(line, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n ? -errno : 0;
	got = collect(&message, batch->fds);
	if (!(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) && protocol_batch_is_sound(&batch->head, (size_t)n, got))
		return 1;
	batch_close(batch);
	return n < (ssize_t)sizeof(batch->head) && !got && !memcmp(&batch->head, "result=", 7) ? -ENOMSG : -EBADMSG;
}

int batch_await(int line, struct batch *batch, int64_t until)
{
	for (;;) {
		struct pollfd on = {.fd = line, .events = POLLIN};
		int r = batch_receive(line, batch);
		int64_t left = until - io_now();

		if (r != -EAGAIN)
			return r;
		if (left <= 0)
			return -ETIME;
		if (patience_poll(&on, 1, (int)(left / 1000000) + 1) < 0 && errno == ECANCELED)
			return -ECANCELED;
	}
}

int batch_send(int line, const struct batch *batch)
{
	union control control;
	struct iovec bytes = {(void *)&batch->head, sizeof(batch->head)};
	struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
	ssize_t n;

	if (batch->head.count) {
		memset(&control, 0, sizeof(control));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(batch->head.count * sizeof(int));
		*CMSG_FIRSTHDR(&message) =
			(struct cmsghdr){CMSG_LEN(batch->head.count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), batch->fds, batch->head.count * sizeof(int));
	}
	do
		n = sendmsg(line, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

struct batch batch_empty(enum protocol_batch_kind kind)
{
	struct batch batch = {.head = {.magic = PROTOCOL_MAGIC, .kind = kind}};

	for (size_t i = 0; i < PROTOCOL_BATCH_MAX; i++)
		batch.fds[i] = -1; /* 0 is a descriptor */
	return batch;
}

void batch_close(struct batch *batch)
{
	for (size_t i = 0; i < PROTOCOL_BATCH_MAX; i++) {
		io_close(&batch->fds[i]);
		batch->fds[i] = -1;
	}
}
