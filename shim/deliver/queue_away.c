/* SPDX-License-Identifier: MIT */
/*
 * Carried connections that are not delivered yet go elsewhere: with this program's own next image, or to a process that
 * was exec'ed with the listener.
 */
#define _GNU_SOURCE
#include "deliver/queue.h"

#include "base/guarded.h"
#include "deliver/family.h"
#include "deliver/linger.h"
#include "fd/gate.h"
#include "process/roster.h"
#include "process/guard.h"
#include "base/newfd.h"
#include "base/io.h"
#include "base/log.h"
#include "base/next.h"
#include "base/pool.h"
#include "base/raw.h"
#include "fd/tagging.h"
#include "model/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

enum { PASSED_QUEUES = 1 << 16 }; /* more than any process has */

/* ---- leaving again, before the program has accepted every knock ---- */

/* Do other processes accept from the same queues? */
static bool is_shared(void)
{
	return !roster_elect() || roster_has_workers();
}

static void take_knocks(struct family *f, int listener)
{
	int fd;

	while (knock_unaccepted() && family_has_room(f, 1) && (fd = io_accept_soon(listener)) >= 0) {
		enum knock_kind kind = knock_kind(fd);

		if (kind == KNOCK_NONE) {
			f->fds[f->count++] = fd;
			continue;
		}
		if (kind == KNOCK_MADE)
			knock_accepted();
		raw_close(fd);
	}
}

/*
 * Before anything else, takes the knocks out of the queue (the next generation would take them for clients), and their
 * connections out of the socket pairs. The queue has an order: clients that came while no process accepted are before
 * the knocks, however many they are. They are taken, too, and carried.
 */
static void reclaim(struct family *f, int listener)
{
	int fd;

	while (family_has_room(f, 1) && ((fd = fdqueue_take(&f->flight)) >= 0 || (fd = deferred_take(&f->held)) >= 0))
		f->fds[f->count++] = fd;
	if (knock_begin_taking()) {
		take_knocks(f, listener);
		knock_end_taking();
	}
	if (!f->flight.fed || !is_shared()) /* else, if it is called off, others go on to take from it */
		fdqueue_close(&f->flight);
	deferred_close(&f->held);
	f->unknocked = f->asking = 0;
	f->stays = false;
}

/*
 * Do its connections go with the next image? The listener may have no process yet: a program that execs itself before
 * it binds has it as an orphan, and so has its next image. A listener that workers have claimed is theirs, with its
 * queue.
 */
static bool goes_back(struct family *f, const struct entry *e)
{
	if (f->joined || !e || (!f->count && fdqueue_is_empty(&f->flight) && !f->held.count))
		return false;
	return !(e->flags & ENTRY_ORPHAN) || !roster_has_workers();
}

size_t deliver_take_back(struct passed *into, size_t most)
{
	assert_guarded();
	struct rlimit before = {0};
	size_t n = 0;

	newfd_lift_limit(true, &before);

	for (struct family *f = family_all; f; f = f->after) {
		struct entry *e = table_find(cpr__table, f->name, 0);
		struct object object;

		if (!goes_back(f, e))
			continue;
		reclaim(f, e->fd);
		for (size_t i = 0; i < f->count && n < most; i++)
			if (!object_of(f->fds[i], &object))
				into[n++] = (struct passed){.fd = f->fds[i], .listener = e->fd, .ino = object.ino};
	}
	newfd_lift_limit(false, &before);
	return n;
}

void deliver_reclaim(void)
{
	assert_guarded();
	for (struct family *f = family_all; f; f = f->after) {
		struct entry *e = table_find(cpr__table, f->name, 0);

		if (goes_back(f, e))
			reclaim(f, e->fd);
	}
}

static void give_one(struct family *f, const struct entry *e, struct passed *into)
{
	int fd = f->fds[--f->count];
	struct object object;

	if (table_by_fd(cpr__table, fd))
		table_forget_fd(cpr__table, fd);
	*into = (struct passed){.fd = fd, .listener = e->fd, .ino = object_of(fd, &object) ? 0 : object.ino};
}

size_t deliver_give_away(struct passed *into, size_t most)
{
	assert_guarded();
	size_t n = 0;

	for (struct family *f = family_all; f && n < most; f = f->after) {
		struct entry *e = table_find(cpr__table, f->name, 0);

		if (goes_back(f, e))
			reclaim(f, e->fd);
		while (e && !f->joined && f->count && n < most)
			give_one(f, e, &into[n++]);
	}
	return n;
}

size_t deliver_left(void)
{
	struct guard_hold hold;
	size_t n = 0;

	if (!family_all || !guard_lock(&hold))
		return 0;
	for (struct family *f = family_all; f; f = f->after)
		if (!f->joined)
			n += f->count + f->held.count + !fdqueue_is_empty(&f->flight);
	guard_unlock(&hold);
	return n;
}

size_t deliver_hand_on(struct passed *into, size_t most)
{
	assert_guarded();
	size_t n = 0;

	if (!roster_has_workers())
		n = deliver_take_back(into, most);
	for (struct family *f = family_all; f; f = f->after) {
		int fd;

		while ((fd = deferred_take(&f->held)) >= 0) { /* their signals would be lost */
			if (!fdqueue_put_anywhere(&f->flight, fd))
				raw_close(fd);
			f->unknocked++;
		}
		while (f->unknocked && knock_at(&f->door))
			f->unknocked--;
	}
	return n + linger_hand_on(into + n, most - n);
}

void deliver_call_off(void)
{
	assert_guarded();
	struct rlimit before = {0};

	newfd_lift_limit(true, &before);
	for (struct family *f = family_all; f; f = f->after) {
		struct entry *e = table_find(cpr__table, f->name, 0);

		f->called_off |= f->flight.fed && f->flight.pair_count && is_shared();
		if (e && !(e->flags & ENTRY_ORPHAN))
			deliver_to(f->name, e->fd);
	}
	newfd_lift_limit(false, &before);
}

void deliver_to_inherited(void)
{
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (e->flags & ENTRY_STARTED_WITH)
			deliver_to(e->name, e->fd);
}

/* ---- to processes that were exec'ed with the listener ---- */

struct share {
	uint32_t queues;
};

void deliver_share(int sock, uint64_t ino)
{
	const struct entry *e;
	struct share share = {0};
	struct guard_hold hold;
	struct family *f;

	if (!guard_lock(&hold))
		return;
	e = gate_listener(ino);
	f = e && knock_shared() >= 0 ? family_named(e->name) : NULL;
	if (f && !f->joined)
		share.queues = (uint32_t)f->flight.pair_count;
	if (!io_send(sock, &share, sizeof(share), share.queues ? knock_shared() : -1))
		for (uint32_t i = 0; i < share.queues && !io_send(sock, "", 1, fdqueue_end(&f->flight, i)); i++)
			;
	guard_unlock(&hold);
}

static bool take_queues(struct family *f, int sock, uint32_t n)
{
	char byte;
	int fd;

	if (!fdqueue_expect(&f->flight, n))
		return false;
	while (f->flight.pair_count < n && io_receive(sock, &byte, 1, &fd) == 1 && fd >= 0)
		fdqueue_add_end(&f->flight, fd);
	return f->flight.pair_count == n;
}

void deliver_join(int sock, uint64_t ino)
{
	cleanup_fd int knocks = -1;
	struct share share = {0};
	const struct entry *e;
	struct guard_hold hold;
	struct family *f;

	if (io_receive(sock, &share, sizeof(share), &knocks) != sizeof(share) || !share.queues ||
	    share.queues > PASSED_QUEUES || !guard_lock(&hold))
		return;
	e = gate_listener(ino);
	f = e && knock_join(knocks) ? family_for(e->name, 1) : NULL;
	if (f && !f->joined) { /* else it has asked at the door already */
		f->joined = true;
		if (!take_queues(f, sock, share.queues))
			log_warn("what was carried for %s did not come to this process whole", e->name);
		atomic_store(&deliver_waiting, f->flight.pair_count > 0);
	}
	guard_unlock(&hold);
}
