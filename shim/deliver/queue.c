/* SPDX-License-Identifier: MIT */
/* Deliver: what the last generation carried, to the program, through its own accept(). */
#define _GNU_SOURCE
#include "deliver/queue_inside.h"

#include "process/roster.h"
#include "process/birth.h"
#include "process/task.h"
#include "fd/conn.h"
#include "deliver/linger.h"
#include "process/guard.h"
#include "base/fds.h"
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

enum {
	ODD_MS = 20,       /* what is in flight so long, and no knock stands for it, was put back */
	SERVED_MAX = 64,   /* carried connections that have asked, in one process; what is beyond is not waited for */
};

_Atomic bool deliver_waiting;
struct family *deliver_families;
/* descriptor + 1 of a carried connection that has asked, and is not answered yet */
static _Atomic int serving[SERVED_MAX];

struct family *deliver_family_named(const char *name)
{
	for (struct family *f = deliver_families; f; f = f->after)
		if (!strcmp(f->name, name))
			return f;
	return NULL;
}

static bool is_it(const struct passed *p)
{
	struct object object;

	return !object_of(p->fd, &object) && object.ino == p->ino && object.domain >= 0;
}

struct family *deliver_family_for(const char *name, size_t most)
{
	struct family *f = deliver_family_named(name);
	size_t len = strlen(name) + 1;

	if (f)
		return f;
	f = pool_alloc(sizeof(*f));
	if (!f)
		return NULL;
	f->name = pool_alloc(len);
	f->fds = pool_alloc(most * sizeof(int));
	if (!f->name || !f->fds)
		return NULL;
	memcpy(f->name, name, len);
	f->room = most;
	f->after = deliver_families;
	deliver_families = f;
	return f;
}

static void before_fork(void);

void deliver_adopt(const struct passed *passed, size_t n)
{
	if (n && !knock_prepare(n))
		n = 0; /* all are closed by the next exec; never taken for clients */
	if (n)
		tagging_hide("", knock_shared());
	if (!linger_prepare(n))
		return;
	for (size_t i = 0; i < n; i++) {
		const struct passed *p = &passed[i];
		const struct entry *e = p->listener >= 0 ? table_by_fd(cpr__table, p->listener) : NULL;
		struct family *f;

		if (!is_it(p))
			continue;
		next_fcntl(p->fd, F_SETFD, (void *)(long)FD_CLOEXEC);
		f = e ? deliver_family_for(e->name, n) : NULL;
		if (f) {
			f->fds[f->count++] = p->fd;
			tagging_hide(f->name, p->fd);
		} else {
			linger_begin(p->fd);
		}
	}
	pace_begin(); /* a worker may claim, and this process, which knocks, not hear of it */
	if (deliver_families)
		birth_around_fork(before_fork, NULL);
}

/* Whose request waits already comes first. */
static size_t put_asking_first(int *fds, size_t n)
{
	size_t asking = 0;

	for (size_t i = 0; i < n; i++) {
		int fd = fds[i];

		if (!conn_has_unread(fd))
			continue;
		fds[i] = fds[asking];
		fds[asking++] = fd;
	}
	return asking;
}

static bool is_deferred(const struct family *f)
{
	const struct entry *e = table_find(cpr__table, f->name, 0);

	return e && knock_is_deferred(e->fd);
}

/* A restart was called off: in the queues from which others take as well. Only the owner hears those that are held. */
static bool put_back(struct family *f)
{
	size_t asking = put_asking_first(f->fds, f->count), go = f->count, n = 0;

	if (asking < f->count && roster_elect() && is_deferred(f) &&
	    deferred_keep(&f->held, f->fds + asking, f->count - asking))
		go = asking;
	for (size_t i = 0; i < go; i++) {
		if (fdqueue_put_anywhere(&f->flight, f->fds[i])) {
			n++;
		} else {
			log_warn("a connection of %s could not be carried: %m", f->name);
			raw_close(f->fds[i]);
		}
	}
	f->unknocked = roster_elect() ? n : 0;
	f->asking = asking < f->unknocked ? asking : f->unknocked;
	f->count = 0;
	return true;
}

/* Who says nothing to a listener that waits for a word is held. */
static bool put_in_flight(struct family *f)
{
	size_t asking = put_asking_first(f->fds, f->count), go;

	if (f->flight.pair_count)
		return put_back(f);
	if (!fdqueue_open(&f->flight, f->count))
		return false;
	for (size_t i = 0; i < f->count; i++)
		table_forget_fd(cpr__table, f->fds[i]);
	f->flight.fed =
		asking < f->count && is_deferred(f) && deferred_keep(&f->held, f->fds + asking, f->count - asking);
	go = f->flight.fed ? asking : f->count;
	for (size_t i = 0; i < go; i++) {
		if (!fdqueue_put(&f->flight, i / FDQUEUE_PER_PAIR, f->fds[i])) {
			log_warn("a connection of %s could not be carried: %m", f->name);
			raw_close(f->fds[i]);
		}
	}
	f->asking = asking;
	f->unknocked = go;
	f->count = 0;
	return true;
}

static bool any_waits(void)
{
	for (const struct family *f = deliver_families; f; f = f->after)
		if (f->count)
			return true;
	return false;
}

/*
 * Before a fork. Each child would have a copy of what waits here, and a connection of which another process holds a
 * copy never ends. In flight, it belongs to no process, until one takes it.
 */
static void before_fork(void)
{
	struct guard_hold hold;

	if (likely(!any_waits()) || !guard_lock(&hold))
		return;
	for (struct family *f = deliver_families; f; f = f->after)
		if (f->count && put_in_flight(f))
			atomic_store(&deliver_waiting, true);
	guard_unlock(&hold);
}

/* Nothing in flight: every knock so far has been accepted, and the record of them is free. */
static bool done_knocking(void)
{
	for (struct family *f = deliver_families; f; f = f->after)
		if (!f->joined && !fdqueue_is_empty(&f->flight))
			return false;
	return true;
}

void deliver_to(const char *name, int fd)
{
	struct family *f = deliver_family_named(name);
	int saved_errno = errno;

	if (f && f->joined)
		return;
	if (done_knocking() && roster_elect()) { /* one record of knocks has one writer */
		knock_forget_all();
		pace_begin();
	}
	if (f && (f->unknocked || f->held.count || (f->count && put_in_flight(f)))) {
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

static bool has_room_for(struct family *f, size_t n)
{
	int *fds;

	if (f->room - f->count >= n)
		return true;
	fds = pool_alloc((f->count + n) * sizeof(int));
	if (!fds)
		return false;
	memcpy(fds, f->fds, f->count * sizeof(int));
	pool_free(f->fds, f->room * sizeof(int));
	f->fds = fds;
	f->room = f->count + n;
	return true;
}

void deliver_more(const char *name, int listener, int *fds, size_t n)
{
	struct family *f = deliver_family_for(name, n);
	size_t unknocked;

	if (f && !f->joined)
		n = sort_out_knocks(f, fds, n);
	if (!f || f->joined || (knock_shared() < 0 && !knock_prepare(n)) || !has_room_for(f, n)) {
		for (size_t i = 0; i < n; i++)
			raw_close(fds[i]);
		return;
	}
	memcpy(f->fds + f->count, fds, n * sizeof(int));
	f->count += n;
	unknocked = f->unknocked;
	f->unknocked = 0;
	if (f->count && !put_in_flight(f)) /* they wait here, and are closed at the end of grace */
		log_warn("%zu connections of %s find no way to the program: %m", f->count, name);
	f->unknocked += unknocked;
	deliver_to(name, listener);
}

/* Has its client asked for something already? Then the program is at work for it until it writes. */
static void begin_service(int fd)
{
	bool asks = conn_has_unread(fd);

	for (int i = 0; asks && i < SERVED_MAX; i++) {
		int none = 0;

		if (atomic_compare_exchange_strong(&serving[i], &none, fd + 1))
			return;
	}
	if (asks)
		full_note(FULL_SERVED, SERVED_MAX);
	knock_served();
}

void deliver_wrote(int fd)
{
	for (int i = 0; i < SERVED_MAX; i++) {
		int it = fd + 1;

		if (serving[i] == it && atomic_compare_exchange_strong(&serving[i], &it, 0))
			knock_served();
	}
}

static void name_peer(int fd, struct sockaddr *addr, socklen_t *len)
{
	struct sockaddr_storage there = {0};
	socklen_t there_len = sizeof(there);

	if (!addr || !len || getpeername(fd, (struct sockaddr *)&there, &there_len))
		return;
	memcpy(addr, &there, *len < there_len ? *len : there_len);
	*len = there_len;
}

static bool has_free_number(int fd)
{
	int spare = next_fcntl(fd, F_DUPFD_CLOEXEC, NULL);

	if (spare >= 0)
		raw_close(spare);
	return spare >= 0;
}

/*
 * A carried connection in the place of the knock that was accepted at fd, with the flags that accept4 was asked for.
 * False: there is none, and fd is closed. What comes out of a message and finds no number is lost. So the limit is
 * lifted meanwhile: closing the knock first gives a number, but another thread can have it before the message does.
 * Only where all numbers up to the hard limit are in use is that done.
 */
static bool take_in_place(struct family *f, int fd, int flags)
{
	struct rlimit before = {0};
	bool beside, placed = true;
	int carried, status;

	fds_lift_limit(true, &before);
	beside = has_free_number(fd);
	if (!beside)
		raw_close(fd);
	carried = fdqueue_take(&f->flight);
	if (carried != fd) {
		placed = beside && carried >= 0 && next_dup3(carried, fd, O_CLOEXEC) >= 0;
		io_close(&carried);
		if (!placed && beside)
			raw_close(fd);
	}
	fds_lift_limit(false, &before);
	if (!placed)
		return false;
	status = next_fcntl(fd, F_GETFL, NULL);
	if (!(flags & SOCK_CLOEXEC))
		next_fcntl(fd, F_SETFD, NULL);
	next_fcntl(fd, F_SETFL, (void *)(long)(flags & SOCK_NONBLOCK ? status | O_NONBLOCK : status & ~O_NONBLOCK));
	return true;
}

static bool any_joined(void)
{
	for (const struct family *f = deliver_families; f; f = f->after)
		if (f->joined && f->flight.pair_count)
			return true;
	return false;
}

static void leave(struct family *f)
{
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	if (fdqueue_is_over(&f->flight)) /* another thread may have been here */
		fdqueue_close(&f->flight);
	if (!any_joined())
		atomic_store(&deliver_waiting, false);
	guard_unlock(&hold);
}

int deliver_accepted(int listener, int fd, int flags, struct sockaddr *addr, socklen_t *len)
{
	struct entry *e = table_by_fd(cpr__table, listener);
	struct family *f = e ? deliver_family_named(e->name) : NULL;
	int saved_errno = errno, r = -1;
	enum knock_kind kind;

	if (f && f->joined && fdqueue_is_over(&f->flight))
		leave(f);
	kind = f ? knock_kind(fd) : KNOCK_NONE;

	if (kind != KNOCK_MADE) {
		if (kind == KNOCK_GIVEN_UP)
			raw_close(fd);
		errno = saved_errno;
		return kind == KNOCK_GIVEN_UP ? -1 : 0;
	}
	knock_accepted();
	if (take_in_place(f, fd, flags)) {
		name_peer(fd, addr, len);
		begin_service(fd);
		r = 1;
	} else {
		knock_served();
	}
	errno = saved_errno;
	return r;
}

bool deliver_is_knocking(void)
{
	for (const struct family *f = deliver_families; f; f = f->after)
		if ((f->unknocked || f->odd_at) && pace_knocks_for(f))
			return true;
	return false;
}

/* Workers have claimed it, each for itself: the owner has the listener as an orphan still, and may knock at it. */
static void find_door(struct family *f)
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

/* Their clients said nothing in all that time. Another process may not be so far, and is the one that hears them. */
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
static void give_up(struct family *f)
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

static void hear(struct family *f, bool all)
{
	const struct entry *e;
	size_t n;

	if (!f->held.count || !roster_elect())
		return;
	e = table_find(cpr__table, f->name, 0);
	if (e && !knock_is_deferred(e->fd)) { /* any more: the program wants them now */
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
	hear(f, late);
	if (late)
		give_up(f);
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
	find_door(f);
	pace_knock(f, f->unknocked ? table_find(cpr__table, f->name, 0) : NULL);
	return true;
}

static int settle(bool late)
{
	bool over = linger_over();

	for (struct family *f = deliver_families; f; f = f->after)
		if (!f->joined && settle_one(f, late))
			over = false;
	if (!deliver_expects && (!deliver_families || (over && done_knocking())) && !any_joined()) {
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
	again = settle(late);
	guard_unlock(&hold);
	return again;
}

void deliver_heard(int fd)
{
	for (struct family *f = deliver_families; f; f = f->after)
		deferred_heard(&f->held, fd);
}

size_t deliver_count(void)
{
	struct guard_hold hold;
	size_t n = 0;

	if (!guard_lock(&hold))
		return 0;
	for (const struct family *f = deliver_families; f; f = f->after)
		n += f->joined ? 0 : f->count + f->unknocked + f->held.count;
	n += knock_unaccepted();
	guard_unlock(&hold);
	return n;
}
