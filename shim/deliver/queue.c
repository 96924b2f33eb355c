/* SPDX-License-Identifier: MIT */
/* Deliver: what the last generation carried, to the program, through its own accept(). */
#define _GNU_SOURCE
#include "deliver/queue.h"

#include "deliver/flight.h"
#include "process/roster.h"
#include "process/birth.h"
#include "process/task.h"
#include "fd/conn.h"
#include "deliver/linger.h"
#include "process/guard.h"
#include "base/newfd.h"
#include "base/full.h"
#include "base/io.h"
#include "deliver/knock.h"
#include "base/log.h"
#include "base/next.h"
#include "deliver/pace.h"
#include "deliver/take.h"
#include "base/pool.h"
#include "base/raw.h"
#include "fd/tagging.h"
#include "model/knock_plan.h"
#include "model/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { ODD_MS = 20 }; /* what is in flight so long, and no knock stands for it, was put back */

static bool is_it(const struct passed *p)
{
	struct object object;

	return !object_of(p->fd, &object) && object.ino == p->ino && object.domain >= 0;
}

static bool any_waits(void)
{
	for (const struct family *f = family_all; f; f = f->after)
		if (f->count)
			return true;
	return false;
}

/*
 * Before a fork. Each child would have a copy of what waits here, and a connection of which another process holds a
 * copy never ends. In flight, it belongs to no process, until one takes it.
 */
static void queue_before_fork(void)
{
	struct guard_hold hold;

	if (likely(!any_waits()) || !guard_lock(&hold))
		return;
	for (struct family *f = family_all; f; f = f->after) {
		if (!f->count)
			continue;
		flight_put(f);
		atomic_store(&deliver_waiting, true);
	}
	guard_unlock(&hold);
}

void deliver_adopt(const struct passed *passed, size_t n)
{
	if (n)
		flight_can_knock(n);
	if (!linger_prepare(n))
		return;
	for (size_t i = 0; i < n; i++) {
		const struct passed *p = &passed[i];
		const struct entry *e = p->listener >= 0 ? table_by_fd(cpr__table, p->listener) : NULL;
		struct family *f;

		if (!is_it(p))
			continue;
		next_fcntl(p->fd, F_SETFD, (void *)(long)FD_CLOEXEC);
		f = e ? family_for(e->name, n) : NULL;
		if (f) {
			f->fds[f->count++] = p->fd;
			tagging_hide(f->name, p->fd);
		} else {
			linger_begin(p->fd);
		}
	}
	pace_begin(); /* a worker may claim without notice to this process, which knocks */
	if (family_all)
		birth_around_fork(queue_before_fork, NULL);
}

/* Nothing in flight: every knock so far has been accepted, and the record of them is free. */
static bool done_knocking(void)
{
	for (struct family *f = family_all; f; f = f->after)
		if (!f->joined && !fdqueue_is_empty(&f->flight))
			return false;
	return true;
}

void deliver_to(const char *name, int fd)
{
	struct family *f = family_named(name);
	int saved_errno = errno;

	if (f && f->joined)
		return;
	if (done_knocking() && roster_elect()) { /* one record of knocks has one writer */
		knock_forget_all();
		pace_begin();
	}
	if (f && f->count) /* beside what has come since, which is knocked for already */
		flight_put(f);
	if (f && (f->unknocked || f->held.count || f->count)) {
		f->door = knock_door_of(fd);
		/* a worker leaves it to its owner: one record of knocks has one writer */
		f->claimer = roster_elect() ? getpid() : 0;
		atomic_store(&deliver_waiting, true);
		if (f->asking && !f->door.deferred && f->claimer)
			pace_knock(f, table_by_fd(cpr__table, fd));
		task_wake();
	}
	errno = saved_errno;
}

/* Knocks came in at the other listener, too: they are made anew. The others are clients; how many. */
static size_t sort_out_knocks(struct family *f, int *fds, size_t n)
{
	size_t clients = 0;

	for (size_t i = 0; i < n; i++) {
		enum knock_kind kind = knock_kind(fds[i]);

		if (kind == KNOCK_NONE) {
			fds[clients++] = fds[i];
			continue;
		}
		if (kind == KNOCK_MADE) {
			knock_accepted();
			knock_served();
			f->unknocked++;
		}
		raw_close(fds[i]);
	}
	return clients;
}

void deliver_more(const char *name, int listener, int *fds, size_t n)
{
	struct family *f = family_for(name, n);

	if (f && !f->joined)
		n = sort_out_knocks(f, fds, n);
	if (!f || f->joined || (knock_shared() < 0 && !knock_prepare(n)) || !family_has_room(f, n)) {
		for (size_t i = 0; i < n; i++)
			raw_close(fds[i]);
		return;
	}
	memcpy(f->fds + f->count, fds, n * sizeof(int));
	f->count += n;
	flight_put(f);
	deliver_to(name, listener);
}

bool deliver_is_knocking(void)
{
	for (const struct family *f = family_all; f; f = f->after)
		if ((f->unknocked || f->odd_at) && pace_knocks_for(f))
			return true;
	return false;
}

/* Workers have claimed it, each for itself: the owner has the listener as an orphan still, and may knock at it. */
static void queue_find_door(struct family *f)
{
	const struct entry *e = f->unknocked && !f->door.len && roster_claims() && roster_elect()
					? table_orphan(cpr__table, f->name)
					: NULL;

	if (e)
		f->door = knock_door_of(e->fd);
}

static void stop_sharing(void)
{
	if (knock_shared() < 0)
		return;
	table_forget_fd(cpr__table, knock_shared());
	knock_unshare();
}

/* Never knocked for. */
static void close_waiting(struct family *f)
{
	for (size_t i = 0; i < f->count; i++) {
		const struct entry *e = table_by_fd(cpr__table, f->fds[i]);

		if (!e || !object_still(&e->object, f->fds[i]))
			continue; /* closed behind our back: the number is the program's */
		table_forget_fd(cpr__table, f->fds[i]);
		raw_close(f->fds[i]);
	}
	f->count = 0;
}

/*
 * Gives up held connections whose clients sent nothing in all that time. Another process may still wait for them, and
 * then gets their signals.
 */
static void give_up_held(struct family *f)
{
	size_t silent = 0;
	int fd;

	for (; (fd = deferred_take(&f->held)) >= 0; silent++)
		raw_close(fd);
	deferred_close(&f->held);
	if (silent)
		log_info("%zu carried connections of %s had nothing to say in %d s: closed", silent, f->name,
			 cpr__settings.grace_s);
}

/*
 * These were not accepted in all that time. For those that were held until they spoke, that is counted from the last
 * moment at which they could.
 */
static void queue_give_up(struct family *f)
{
	int64_t now = io_now();
	size_t lost = f->count;
	int fd;

	close_waiting(f);
	f->late_at = f->late_at ? f->late_at : now;
	if (roster_elect())
		give_up_held(f);
	if (f->flight.fed && (f->door.len || !roster_elect()) &&
	    now - f->late_at < cpr__settings.grace_s * INT64_C(1000000000))
		return;
	give_up_held(f);
	for (; (fd = fdqueue_take(&f->flight)) >= 0; lost++)
		raw_close(fd);
	if (lost)
		log_warn("%zu carried connections of %s were not accepted in %d s: closed", lost, f->name,
			 cpr__settings.grace_s);
}

static void queue_hear(struct family *f, bool all)
{
	const struct entry *e;
	size_t n;

	if (!f->held.count || !roster_elect())
		return;
	e = table_find(cpr__table, f->name, 0);
	if (e && !knock_is_deferred(e->fd)) { /* any more: the program expects them now */
		f->door.deferred = false;
		f->unknocked += deferred_hear(&f->held, &f->flight, DEFERRED_SILENT_TOO);
		return;
	}
	n = deferred_hear(&f->held, &f->flight, all ? DEFERRED_ANY : DEFERRED_RUNG);
	f->unknocked += n;
	f->asking += n;
}

/*
 * What workers have put back is knocked for one by one: a knock that stands for nothing would let the program wait in
 * accept(). So not for what is about to be taken, either.
 */
static void count_put_back(struct family *f)
{
	int64_t now = io_now();

	if (!f->called_off || !roster_elect() || f->unknocked || pace_is_awaited()) {
		f->odd_at = 0;
		return;
	}
	f->odd_at = f->odd_at ? f->odd_at : now;
	if (now - f->odd_at >= ODD_MS * INT64_C(1000000))
		f->unknocked = 1;
}

/* False: there is nothing left of it. */
static bool settle_one(struct family *f, bool late)
{
	late = late && !deliver_expects;
	queue_hear(f, late);
	if (late)
		queue_give_up(f);
	else if (f->stays && f->count && f->door.len)
		flight_put(f);
	if (!f->count && fdqueue_is_empty(&f->flight)) {
		f->odd_at = 0;
		if (f->held.count || (f->called_off && !late))
			return true;
		if (deliver_expects)
			return false;
		fdqueue_close(&f->flight);
		deferred_close(&f->held);
		f->unknocked = 0;
		return false;
	}
	count_put_back(f);
	queue_find_door(f);
	pace_knock(f, f->unknocked ? table_find(cpr__table, f->name, 0) : NULL);
	return true;
}

static int queue_settle(bool late)
{
	bool over = linger_over();

	for (struct family *f = family_all; f; f = f->after)
		if (!f->joined && settle_one(f, late))
			over = false;
	if (!deliver_expects && (!family_all || (over && done_knocking())) && !family_any_joined()) {
		atomic_store(&deliver_waiting, false);
		stop_sharing();
	}
	return over ? 0 : deliver_is_knocking() ? pace_next_look() : KNOCK_SLOW_TICK_MS;
}

int deliver_settle(bool late)
{
	struct guard_hold hold;
	int again;

	if (!guard_lock(&hold))
		return 0;
	again = queue_settle(late);
	guard_unlock(&hold);
	return again;
}

void deliver_heard(int fd)
{
	for (struct family *f = family_all; f; f = f->after)
		deferred_heard(&f->held, fd);
}

size_t deliver_count(void)
{
	struct guard_hold hold;
	size_t n = 0;

	if (!guard_lock(&hold))
		return 0;
	for (const struct family *f = family_all; f; f = f->after)
		n += f->joined ? 0 : f->count + f->unknocked + f->held.count;
	n += knock_unaccepted();
	guard_unlock(&hold);
	return n;
}
