/* SPDX-License-Identifier: MIT */
/* Give: batches of descriptors by message. */
#define _GNU_SOURCE
#include "restart/give.h"

#include "base/io.h"
#include "base/log.h"
#include "base/next.h"
#include "base/pool.h"
#include "base/raw.h"
#include "fd/tagging.h"
#include "model/protocol.h"
#include "model/state.h"
#include "process/caller.h"
#include "process/guard.h"
#include "process/identity.h"
#include "process/roster.h"
#include "process/startup.h"
#include "restart/arrive.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>

enum { PATIENCE_MS = 2000, FULL_MS = 1 };

/* One that is given: taken down while the guard is held, and looked at again when it is sent. */
struct given_fd {
	int fd;
	struct object object;
};

int give_send(int sock, const void *bytes, size_t n, const int *fds, size_t count, int ms)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(PROTOCOL_BATCH_MAX * sizeof(int))];
	} control;
	struct iovec iov = {(void *)bytes, n};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	struct timespec pause = {0, FULL_MS * 1000000L};

	if (count) {
		message.msg_control = control.room;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		memset(&control, 0, sizeof(control));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, count * sizeof(int));
	}
	for (;; ms -= FULL_MS) {
		if (raw_sendmsg(sock, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
			return 0;
		/* ETOOMANYREFS: so many descriptors are under way already as this process may have */
		if ((errno != EAGAIN && errno != EINTR && errno != ETOOMANYREFS) || ms <= 0)
			return -errno;
		next_sys(SYS_nanosleep, &pause, NULL);
	}
}

static bool is_given(const struct entry *e)
{
	return e->flags & ENTRY_KEPT && (roster_elect() || e->kind == ENTRY_STREAM || e->kind == ENTRY_DATAGRAM);
}

/* The state as a memfd, and what it names into `all`, which has room for as many as the table. */
static int take_down(struct given_fd **all, size_t *count, size_t *room, bool with_start)
{
	struct state state = {.generation = (uint32_t)generation_number(),
			      .first_at = generation_first_at(),
			      .table = cpr__table,
			      .heirlooms = cpr__startup.heirlooms,
			      .heirloom_count = cpr__startup.heirloom_count};
	struct guard_hold hold;
	int fd = -EAGAIN;

	if (with_start)
		state.given = startup_given();
	if (!guard_lock(&hold))
		return fd;
	tagging_check_all(false);
	*room = (table_count(cpr__table) + 1) * sizeof(**all);
	*all = pool_map(*room);
	fd = *all ? state_write(&state, false) : -ENOMEM;
	for (struct entry *e = *all ? table_first(cpr__table) : NULL; e; e = table_after(e))
		if (is_given(e)) {
			(*all)[(*count)++] = (struct given_fd){e->fd, e->object};
			e->flags |= ENTRY_GIVEN;
		}
	guard_unlock(&hold);
	return fd;
}

static int send_batch(int sock, const struct given_fd *all, size_t n)
{
	struct protocol_batch batch = {.magic = PROTOCOL_MAGIC, .kind = PROTOCOL_BATCH_DESCRIPTORS};
	int fds[PROTOCOL_BATCH_MAX];

	for (size_t i = 0; i < n; i++) {
		if (!object_still(&all[i].object, all[i].fd)) /* closed since */
			continue;
		fds[batch.count] = all[i].fd;
		batch.value[batch.count++] = (uint64_t)all[i].fd;
	}
	return batch.count ? give_send(sock, &batch, sizeof(batch), fds, batch.count, PATIENCE_MS) : 0;
}

void give_on(int sock, size_t processes, bool with_start)
{
	char bytes[512];
	struct text t = TEXT_ON(bytes);
	struct given_fd *all = NULL;
	size_t count = 0, room = 0;
	cleanup_fd int state = take_down(&all, &count, &room, with_start);
	int r = state < 0 ? state : 0;

	errno = -r;
	protocol_put(&t, "result", r ? "failed" : "ok");
	if (r)
		text_format(&t, "reason=the state could not be written: %m\n");
	protocol_put(&t, "role", roster_elect() ? "owner" : "worker");
	protocol_put_int(&t, "descriptors", (int64_t)count);
	if (processes)
		protocol_put_int(&t, "processes", (int64_t)processes);
	if (with_start)
		protocol_put_int(&t, "uid", identity_user_at_start());
	r = io_send(sock, t.bytes, t.used, state);
	for (size_t at = 0; at < count && !r; at += PROTOCOL_BATCH_MAX)
		r = send_batch(sock, all + at, count - at < PROTOCOL_BATCH_MAX ? count - at : PROTOCOL_BATCH_MAX);
	if (r) {
		errno = -r;
		log_warn("not all descriptors could be given to the supervisor: %m");
	}
	if (all)
		pool_unmap(all, room);
}

void give_to(uint64_t nonce)
{
	cleanup_fd int sock = caller_connect_in_turn(nonce);

	if (sock < 0) {
		log_warn("this worker could not give its listeners: they stay with it");
		return;
	}
	caller_wait_on(sock);
	give_on(sock, 0, false);
}
