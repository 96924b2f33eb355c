/* SPDX-License-Identifier: MIT */
/* Take: queues that are there before the fork, and filled after it. */
#define _GNU_SOURCE
#include "deliver/take.h"

#include "base/log.h"
#include "base/raw.h"
#include "deliver/pace.h"
#include "deliver/family.h"
#include "deliver/queue.h"
#include "drain/scm_recv.h"
#include "fd/conn.h"
#include "fd/gate.h"
#include "fd/tagging.h"
#include "process/birth.h"
#include "process/guard.h"
#include "process/roster.h"

#include <string.h>
#include <unistd.h>

enum {
	FAMILIES_MAX = 64, /* with a queue made before the fork: two descriptors each */
	ROOM = 1,          /* in a family's own list, which is not used here */
};

/*
 * The record of knocks. If it could not be made at the start, it is tried again when it is needed: before a fork, and
 * for what comes. A generation that gave up at its first ENOMEM closed each connection that was carried to it.
 */
static bool has_record(void)
{
	if (knock_shared() >= 0)
		return true;
	if (!knock_prepare(1))
		return false;
	tagging_hide("", knock_shared());
	return true;
}

static struct family *family_of(const struct entry *listener)
{
	struct family *f = has_record() ? family_for(listener->name, ROOM) : NULL;

	if (!f || f->flight.pair_count)
		return f;
	if (!fdqueue_open(&f->flight, FDQUEUE_PER_PAIR))
		return NULL;
	f->flight.fed = true;
	return f;
}

static bool take_is_listener(const struct entry *e)
{
	return e->kind == ENTRY_STREAM && e->flags & ENTRY_LISTENING &&
	       strncmp(e->name, TAGGING_HIDDEN, strlen(TAGGING_HIDDEN));
}

bool deliver_can_take(void)
{
	struct guard_hold hold;
	bool can = false;

	if (!guard_lock(&hold))
		return false;
	for (const struct entry *e = table_first(cpr__table); e && !can; e = table_after(e))
		can = take_is_listener(e);
	guard_unlock(&hold);
	return can;
}

static bool listens_for(uint64_t key)
{
	const struct entry *e = table_first(cpr__table);

	while (e && !(take_is_listener(e) && scm_recv_key(e->fd) == key))
		e = table_after(e);
	return e;
}

bool deliver_has_all(const uint64_t *keys, size_t count)
{
	struct guard_hold hold;
	size_t n = 0;

	if (!guard_lock(&hold))
		return false;
	while (n < count && listens_for(keys[n]))
		n++;
	guard_unlock(&hold);
	return n == count;
}

/* A child can take from a queue only if it was there when the child was born. */
static void take_before_fork(void)
{
	struct guard_hold hold;
	int n = 0;

	if (likely(!deliver_expects) || !guard_lock(&hold))
		return;
	for (const struct entry *e = table_first(cpr__table); e && n < FAMILIES_MAX; e = table_after(e))
		n += take_is_listener(e) && family_of(e);
	atomic_store(&deliver_waiting, true);
	guard_unlock(&hold);
}

void deliver_expect(void)
{
	if (deliver_expects)
		return;
	has_record();
	atomic_store(&deliver_expects, true);
	birth_around_fork(take_before_fork, NULL);
}

void deliver_expect_no_more(void)
{
	if (!cpr__settings.comes_back)
		atomic_store(&deliver_expects, false);
}

static bool holds_back(struct family *f, int fd)
{
	return f->door.deferred && !conn_has_unread(fd) && deferred_keep(&f->held, fd);
}

bool deliver_take(const struct entry *listener, int fd)
{
	struct family *f = deliver_expects ? family_named(listener->name) : NULL;
	bool asks = conn_has_unread(fd);

	if (deliver_expects && (!f || !f->flight.pair_count)) { /* a process alone makes it when it needs it */
		f = NULL;
		if (!roster_has_workers() && !(f = family_of(listener)))
			return false; /* there is no number, or no memory, now */
	}
	if (!f) {
		log_warn("a connection of %s could not be taken: closed", listener->name);
		raw_close(fd);
		return true;
	}
	if (!f->door.len)
		f->door = knock_door_of(listener->fd);
	f->claimer = getpid();
	atomic_store(&deliver_waiting, true);
	if (holds_back(f, fd))
		return true;
	if (!fdqueue_put_anywhere(&f->flight, fd))
		return false;
	f->unknocked++;
	f->asking += asks && f->asking + 1 >= f->unknocked; /* those are the first of the queue */
	return true;
}
