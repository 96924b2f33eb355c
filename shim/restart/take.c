/* SPDX-License-Identifier: MIT */
/* Take: batches of connections, each to the listener of its inode. */
#define _GNU_SOURCE
#include "restart/take.h"

#include "base/guarded.h"
#include "base/io.h"
#include "base/log.h"
#include "base/newfd.h"
#include "base/next.h"
#include "base/raw.h"
#include "deliver/linger.h"
#include "deliver/queue.h"
#include "deliver/take.h"
#include "drain/scm_recv.h"
#include "fd/gate.h"
#include "fd/tagging.h"
#include "model/protocol.h"
#include "process/guard.h"
#include "process/roster.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* How often the line is looked at: it does not wake the task. */
enum { STEP_MS = 2, MOST_STEP_MS = 50, BATCHES = 8, PROGRAMS = 4 };

static int line = -1;
static bool ours; /* it was asked of this process */
static bool ended; /* the line has, and not all that came is accepted */
static int step;

/* What has come, and is not in a queue yet. */
static struct {
	struct protocol_batch batch;
	int fds[PROTOCOL_BATCH_MAX];
	uint32_t at;
} had;

static void take_begin(int sock)
{
	if (line >= 0)
		raw_close(line);
	line = sock;
	ours = true;
	step = STEP_MS;
	ended = false;
}

/*
 * A generation that began behind its gate has expected them from its start. One that gets its work back (a rollback)
 * has not, or has not any more. Where workers have forked by now, they have no queue to take from, and what comes is
 * closed.
 */
static void expect_back(void)
{
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	deliver_expect();
	guard_unlock(&hold);
}

/*
 * If only one worker holds a listener, that worker takes what is carried to it. haproxy's master execs itself when its
 * worker exists, and its next image shares no queue with the worker. With several workers any could accept a knock, and
 * only the one that knocks would know its connection.
 */
static void tell_worker(struct text *t)
{
	int workers[2] = {0};

	if (roster_workers(workers, 2) == 1) {
		protocol_put(t, "result", "ok");
		protocol_put_int(t, "pid", workers[0]);
	} else {
		protocol_put(t, "result", "refused");
		protocol_put(t, "reason", "only its workers hold the listeners");
	}
}

/*
 * haproxy's master listens itself as well, for its own clients, but not for those that are carried. An image that has
 * forked its workers shares the queues with them.
 */
static bool is_here(const struct protocol_request *request)
{
	if (!roster_has_workers())
		return true;
	return deliver_can_take() &&
	       (!roster_is_inherited() || deliver_has_all(request->drain.keys, request->drain.key_count));
}

void take_asked(int sock, const struct protocol_request *request)
{
	bool here = is_here(request);
	char bytes[256];
	struct text t = TEXT_ON(bytes);

	if (here)
		protocol_put(&t, "result", "ok");
	else
		tell_worker(&t);
	io_send(sock, t.bytes, t.used, -1);
	if (here) {
		expect_back();
		take_begin(sock);
	} else {
		raw_close(sock);
	}
}

void take_forget(void)
{
	for (; had.at < had.batch.count; had.at++)
		raw_close(had.fds[had.at]);
	if (line >= 0)
		raw_close(line);
	line = -1;
	ours = ended = false;
}

bool take_delivers_here(void)
{
	return ours || roster_elect();
}

/*
 * Are there numbers for the next batch? What comes out of a message and finds none is lost. Some are the program's: it
 * accepts and opens meanwhile.
 */
static bool has_numbers(void)
{
	struct protocol_batch next;
	ssize_t n = raw_recv(line, &next, sizeof(next), MSG_PEEK | MSG_DONTWAIT);
	size_t wanted = n == (ssize_t)sizeof(next) && next.count < PROTOCOL_BATCH_MAX ? next.count : PROTOCOL_BATCH_MAX;

	if (n <= 0) /* a reset is reported once, and data ahead of it is there at the next look */
		return !n || errno != ECONNRESET;
	return newfd_has_free(wanted + PROGRAMS);
}

static size_t passed_with(struct msghdr *message, int *fds)
{
	struct cmsghdr *head = CMSG_FIRSTHDR(message);
	size_t n = head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS
			   ? (head->cmsg_len - CMSG_LEN(0)) / sizeof(int)
			   : 0;

	if (n)
		memcpy(fds, CMSG_DATA(head), n * sizeof(int));
	return n;
}

/* One batch. False: there is none now. */
static bool take_receive(void)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(PROTOCOL_BATCH_MAX * sizeof(int))];
	} control;
	struct iovec iov = {&had.batch, sizeof(had.batch)};
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room)};
	ssize_t n;
	size_t count;

	if (!has_numbers())
		return false;
	had.at = had.batch.count = 0;
	n = raw_recvmsg(line, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	/* a reset is reported once, before data ahead of it */
	if (!n || (n < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNRESET)) {
		io_close(&line);
		line = -1;
		ended = true;
	}
	if (n <= 0)
		return false;
	count = passed_with(&message, had.fds);
	if (!protocol_batch_is_sound(&had.batch, (size_t)n, count) || had.batch.kind != PROTOCOL_BATCH_CARRY) {
		log_warn("the supervisor has sent something that is no batch of connections");
		had.batch.count = (uint32_t)count;
		for (; had.at < count; had.at++)
			raw_close(had.fds[had.at]);
		return false;
	}
	return true;
}

static const struct entry *take_listener_of(uint64_t ino)
{
	static const struct entry *last; /* most come for one */

	if (last && table_by_fd(cpr__table, last->fd) == last && gate_inode(last) == ino && !gate_hides(last))
		return last;
	return last = gate_listener(ino);
}

/* A connection of a listener that this generation has given up: its end tells the client. */
static void end_connection(int fd)
{
	next_shutdown(fd, SHUT_WR);
	raw_close(fd);
}

/* False: the queues are full. */
static bool deliver_all(void)
{
	for (; had.at < had.batch.count; had.at++) {
		uint64_t ino = had.batch.value[had.at];
		const struct entry *listener =
			ino == PROTOCOL_BY_ADDRESS ? scm_recv_listener(had.fds[had.at]) : take_listener_of(ino);

		if (!listener)
			end_connection(had.fds[had.at]);
		else if (!deliver_take(listener, had.fds[had.at]))
			return false;
	}
	return true;
}

static bool take_some(void)
{
	struct guard_hold hold;
	bool any = false;

	for (int i = 0; i < BATCHES; i++) {
		bool room, received;

		if (!guard_lock(&hold)) /* with the batch in hand as well: a thread may exec meanwhile (take_rest) */
			return any;
		room = deliver_all();
		received = room && line >= 0 && take_receive();
		guard_unlock(&hold);
		if (!received)
			return any || !room;
		any = true;
	}
	return any;
}

void take_rest(void)
{
	assert_guarded();
	if (line >= 0)
		next_shutdown(line, SHUT_RD);
	while (deliver_all() && line >= 0 && take_receive())
		;
}

int take_look(void)
{
	int knocks;
	bool any;

	if (line < 0 && !ended)
		return 0;
	any = take_some();
	knocks = gate_has_left ? 0 : deliver_settle(false);
	step = any ? STEP_MS : step < MOST_STEP_MS / 2 ? step * 2 : MOST_STEP_MS;
	return knocks && knocks < step ? knocks : step;
}

size_t take_left(void)
{
	return (line >= 0) + (had.batch.count - had.at);
}

bool take_is_done(void)
{
	if (!ended || had.at < had.batch.count || deliver_count())
		return false;
	ended = false;
	return true;
}
