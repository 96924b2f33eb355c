/* SPDX-License-Identifier: MIT */
/* Knocks as model/knock_plan.c decides. */
#define _GNU_SOURCE
#include "deliver/pace.h"

#include "base/guarded.h"
#include "fd/gate.h"
#include "process/roster.h"
#include "base/io.h"
#include "base/log.h"
#include "model/knock_plan.h"
#include "fd/tagging.h"

#include <unistd.h>

#define MS INT64_C(1000000)

enum { FULL_MS = 20 }; /* after a knock that did not come in */

static size_t batch = KNOCK_FIRST; /* so many knocks at once, next time */
static int64_t knocked_at; /* the last time, or when the listener was claimed */
static int64_t full_until; /* a queue was found full: no knock before */

void pace_begin(void)
{
	assert_guarded();
	batch = KNOCK_FIRST;
	knocked_at = io_now();
}

static int64_t waited_ms(void)
{
	return (io_now() - knocked_at) / MS;
}

bool pace_knocks_for(const struct family *f)
{
	if (gate_has_left) /* the next generation would get its signal */
		return false;
	return f->claimer == getpid() || roster_elect();
}

bool pace_is_awaited(void)
{
	return knock_unaccepted() && waited_ms() < KNOCK_UNHEARD_MS;
}

static struct knock_seen seen_of(const struct family *f, const struct entry *listener)
{
	return (struct knock_seen){
		.waited_ms = waited_ms(),
		.batch = batch,
		.unaccepted = knock_unaccepted(),
		.unserved = knock_unserved(),
		.refused = io_now() < full_until,
		.unknocked = f->unknocked,
		.asking = f->asking,
		.deferred = f->door.deferred,
		.has_queue = listener != NULL,
		.queue = listener ? tagging_queue(listener) : -1,
		.queue_limit = listener ? tagging_queue_limit(listener) : 0,
	};
}

void pace_knock(struct family *f, const struct entry *listener)
{
	struct knock_seen seen;
	size_t n = 0, most;

	assert_guarded();
	if (!f->unknocked || !pace_knocks_for(f))
		return;
	seen = seen_of(f, listener);
	most = knock_plan(&seen);
	while (n < most && knock_at(&f->door))
		n++;
	if (n < most)
		full_until = io_now() + FULL_MS * MS;
	if (!n)
		return;
	batch = knock_next_batch(&seen);
	f->asking -= f->asking < n ? f->asking : n;
	f->unknocked -= n;
	knocked_at = io_now();
	log_debug("knocked %zu times at %s: %zu are left", n, f->name, f->unknocked);
}

int pace_next_look(void)
{
	assert_guarded();
	return knock_next_look_ms(waited_ms());
}
