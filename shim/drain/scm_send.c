/* SPDX-License-Identifier: MIT */
/* Connections that are given away by message. */
#define _GNU_SOURCE
#include "drain/scm_send.h"

#include "fd/conn.h"
#include "drain/drain.h"
#include "process/birth.h"
#include "process/guard.h"
#include "base/full.h"
#include "base/io.h"
#include "base/next.h"
#include "model/tag.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>

enum {
	CHANNELS_MAX = 1024,
	/* a thread may be between its check for a drain and its sendmsg, or after its recvmsg and before its note */
	LOOKS = 2,
	/* the program's loop sees at once that the channel is writable: it must not spin */
	PAUSE_NS = 1000000,
	ACKNOWLEDGED_NS = 500000000, /* from the drain's begin */
};

_Atomic bool scm_send_any;

/* By what they were given. */
static struct channel {
	_Atomic int fd;
	struct object object;
} channels[CHANNELS_MAX];
static _Atomic int channel_count;
static int settled_looks;
static int64_t looked_anew_at;

/*
 * Calls `each` with every connection of ours in a message, until it says true. True: it did. A length that the kernel
 * will refuse is not followed.
 */
static bool scm_send_walk(const struct msghdr *message, bool (*each)(struct conn *c))
{
	const char *end = (const char *)message->msg_control + message->msg_controllen;

	for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR((struct msghdr *)message, head)) {
		if (head->cmsg_len < CMSG_LEN(0) || head->cmsg_len > (size_t)(end - (const char *)head))
			return false;
		if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = 0; at + sizeof(int) <= head->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
			struct conn *c;
			int fd;

			memcpy(&fd, CMSG_DATA(head) + at, sizeof(fd));
			c = conn_at(fd);
			if (c && each(c))
				return true;
		}
	}
	return false;
}

static bool is_one(struct conn *c)
{
	(void)c;
	return true;
}

static bool give(struct conn *c)
{
	conn_set(c, CONN_PASSED);
	return false;
}

static bool take_back(struct conn *c)
{
	conn_clear(c, CONN_PASSED);
	return false;
}

static bool is_held(struct conn *c)
{
	return conn_untouched(c) || c->flags & CONN_FROZEN;
}

bool scm_send_has_connection(const struct msghdr *message)
{
	return scm_send_walk(message, is_one) && birth_own_memory();
}

static struct channel *find_room(int fd)
{
	int n = atomic_load(&channel_count);

	for (int i = 0; i < n; i++)
		if (channels[i].fd == fd || !object_still(&channels[i].object, channels[i].fd))
			return &channels[i];
	if (n == CHANNELS_MAX) {
		full_note(FULL_CHANNELS, CHANNELS_MAX);
		return NULL;
	}
	atomic_store(&channel_count, n + 1);
	return &channels[n];
}

/* One for which there is no room is not waited for. */
static void note_channel(int fd)
{
	struct guard_hold hold;
	struct channel *room;
	struct object object;

	if (object_of(fd, &object) || object.domain != AF_UNIX)
		return;
	atomic_store(&scm_send_any, true);
	for (int i = 0; i < atomic_load(&channel_count); i++)
		if (channels[i].fd == fd && object_same(&channels[i].object, &object))
			return;
	if (!guard_lock(&hold))
		return;
	room = find_room(fd);
	if (room) {
		room->object = object;
		room->fd = fd;
	}
	guard_unlock(&hold);
}

static bool scm_send_blocks(int fd, int flags)
{
	return !(flags & MSG_DONTWAIT) && !(next_fcntl(fd, F_GETFL, NULL) & O_NONBLOCK);
}

/*
 * It is marked before it is sent: from then on another process may be reading it, and a drain that took it for idle
 * would close it there. The mark goes if it stays: else a finished drain would leave it behind.
 */
int scm_send_begin(int fd, const struct msghdr *message, int flags)
{
	struct timespec pause = {0, PAUSE_NS};
	int saved_errno = errno;

	for (;;) {
		note_channel(fd);
		drain_come_in(fd);
		if (likely(!drain_is_on()) || !scm_send_walk(message, is_held)) {
			scm_send_walk(message, give);
			errno = saved_errno;
			return 0;
		}
		scm_send_walk(message,
			      take_back); /* whatever became of it before: it is sent anew, and so it is here */
		drain_exit();
		if (!scm_send_blocks(fd, flags)) {
			next_sys(SYS_nanosleep, &pause, NULL);
			return -EAGAIN;
		}
		if (drain_park())
			return -EINTR;
	}
}

void scm_send_end(const struct msghdr *message, bool sent)
{
	if (!sent)
		scm_send_walk(message, take_back);
	drain_exit();
}

/* ---- in a drain ---- */

static bool is_being_written(int fd)
{
	for (int i = 0; i < active_calls_top(); i++)
		if (atomic_load(&active_calls_at(i)->tid) && atomic_load(&active_calls_at(i)->fd) == fd)
			return true;
	return false;
}

/* The kernel counts what the other end has not read yet. */
static bool has_unreceived(int fd)
{
	int unreceived = 0;

	return !next_ioctl(fd, SIOCOUTQ, &unreceived) && unreceived > 0;
}

/*
 * node's primary keeps a connection until the worker reports that it has it. A worker that starts may have taken the
 * message from the channel, and not handled it yet. It is not rung either, if it has not called the library before. The
 * kernel's byte counts show whether any process has read from the connection.
 */
static bool is_acknowledged(void)
{
	if (io_now() - looked_anew_at > ACKNOWLEDGED_NS)
		return true;
	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);

		if (c && c->flags & CONN_PASSED && conn_untouched(c) && conn_seen_whole(c, fd))
			return false;
	}
	return true;
}

void scm_send_look_anew(void)
{
	settled_looks = 0;
	looked_anew_at = io_now();
}

bool scm_send_is_settled(void)
{
	int n = atomic_load(&channel_count), saved_errno = errno;
	bool quiet = true;

	for (int i = 0; quiet && i < n; i++)
		quiet = !object_still(&channels[i].object, channels[i].fd) ||
			(!is_being_written(channels[i].fd) && !has_unreceived(channels[i].fd));
	settled_looks = quiet && is_acknowledged() ? settled_looks + 1 : 0;
	errno = saved_errno;
	return !n || settled_looks >= LOOKS;
}
