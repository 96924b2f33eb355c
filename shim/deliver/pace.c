/* SPDX-License-Identifier: MIT */
/* When to knock: the slow start, and what a program that has to answer the last ones is spared. */
#define _GNU_SOURCE
#include "deliver/pace.h"

#include "base/guarded.h"
#include "process/roster.h"
#include "base/io.h"
#include "base/log.h"
#include "fd/tagging.h"

#include <unistd.h>

#define MS INT64_C(1000000)

enum {
	FIRST_KNOCKS = 2,  /* of the slow start */
	MOST_KNOCKS = 256, /* at once: a new client stands behind them */
	CROWD_MS = 50,     /* so long at the most clients who wait to be accepted go before knocks */
	UNHEARD_MS = 1000, /* a knock that nobody has accepted holds up the next ones no longer */
	UNSERVED_MS = 50,  /* … and one that was accepted, but whose client is not answered */
	FULL_MS = 20,      /* after a knock that did not come in */
};

static size_t batch = FIRST_KNOCKS; /* so many knocks at once, next time */
static int64_t knocked_at; /* the last time, or when the listener was claimed */
static int64_t full_until; /* a queue was found full: no knock before */

void pace_begin(void)
{
	assert_guarded();
	batch = FIRST_KNOCKS;
	knocked_at = io_now();
}

static int64_t waited_ms(void)
{
	return (io_now() - knocked_at) / MS;
}

bool pace_knocks_for(const struct family *f)
{
	return f->claimer == getpid() || roster_elect();
}

bool pace_is_awaited(void)
{
	return knock_unaccepted() && waited_ms() < UNHEARD_MS;
}

/* May the program be given more? */
static bool is_at_ease(const struct entry *listener)
{
	int64_t waited = waited_ms();

	if (io_now() < full_until)
		return false;
	if (knock_unaccepted())
		return waited >= UNHEARD_MS;
	if (knock_unserved())
		return waited >= UNSERVED_MS;
	return batch > FIRST_KNOCKS || (listener && tagging_queue(listener) <= 0) || waited >= CROWD_MS;
}

/* Half the queue is left to clients: who finds it full waits a second for the kernel's next try. */
static size_t room_in_queue(const struct entry *listener)
{
	int depth, limit = 0;

	if (!listener || (depth = tagging_queue(listener)) < 0) /* a unix socket's cannot be asked for */
		return SIZE_MAX;
	limit = tagging_queue_limit(listener);
	return depth <= limit / 2 ? (size_t)(limit / 2 - depth + 1) : 0;
}

/*
 * How many knocks now. For clients who have asked, at once, and behind those who have come to the queue before: any
 * pause makes them wait for all who come meanwhile, and come again. For the others a few at first, when the queue is
 * empty, and twice as many each time the program has answered the last ones. The obvious code knocks for all at once:
 * but servers take a crowd at the door for overload. Apache ends its idle connections when more come in than it has
 * idle threads, and in the moment of its start it has but a few: it closed the very connections that it had been given.
 * So where accept() is deferred until a word has come, as Apache asks for, all wait so: eight at once, for clients who
 * had asked, were too many for it.
 */
static size_t wanted(const struct family *f, const struct entry *listener)
{
	size_t unserved = knock_unserved();

	if (f->asking && !f->door.deferred && unserved < MOST_KNOCKS && io_now() >= full_until)
		return f->asking < MOST_KNOCKS - unserved ? f->asking : MOST_KNOCKS - unserved;
	return !is_at_ease(listener) ? 0 : f->unknocked < batch ? f->unknocked : batch;
}

void pace_knock(struct family *f, const struct entry *listener)
{
	assert_guarded();
	size_t n = 0, most = f->unknocked && pace_knocks_for(f) ? wanted(f, listener) : 0,
	       room = most ? room_in_queue(listener) : 0;

	if (most > room)
		most = room;
	while (n < most && knock_at(&f->door))
		n++;
	if (n < most)
		full_until = io_now() + FULL_MS * MS;
	if (!n)
		return;
	if ((!f->asking || f->door.deferred) && batch < MOST_KNOCKS)
		batch *= 2;
	f->asking -= f->asking < n ? f->asking : n;
	f->unknocked -= n;
	knocked_at = io_now();
	log_debug("knocked %zu times at %s: %zu are left", n, f->name, f->unknocked);
}

int pace_next_look(void)
{
	assert_guarded();
	int64_t ms = waited_ms() / 8;

	return ms < PACE_TICK_MS ? PACE_TICK_MS : ms < PACE_SLOW_TICK_MS ? (int)ms : PACE_SLOW_TICK_MS;
}
