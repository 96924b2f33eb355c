/* SPDX-License-Identifier: MIT */
/* When to knock: the slow start, and what a program that has to answer the last ones is spared. */
#include "model/knock_plan.h"

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* May the program be given more? */
static bool is_at_ease(const struct knock_seen *seen)
{
	if (seen->refused)
		return false;
	if (seen->unaccepted)
		return seen->waited_ms >= KNOCK_UNHEARD_MS;
	if (seen->unserved)
		return seen->waited_ms >= KNOCK_UNSERVED_MS;
	return seen->batch > KNOCK_FIRST || (seen->has_queue && seen->queue <= 0) || seen->waited_ms >= KNOCK_CROWD_MS;
}

static size_t room_in_queue(const struct knock_seen *seen)
{
	if (!seen->has_queue || seen->queue < 0) /* a unix socket's cannot be asked for */
		return SIZE_MAX;
	return seen->queue <= seen->queue_limit / 2 ? (size_t)(seen->queue_limit / 2 - seen->queue + 1) : 0;
}

static size_t knock_plan_wanted(const struct knock_seen *seen)
{
	if (seen->asking && !seen->deferred && seen->unserved < KNOCK_MOST && !seen->refused)
		return least(seen->asking, KNOCK_MOST - seen->unserved);
	return is_at_ease(seen) ? least(seen->unknocked, seen->batch) : 0;
}

size_t knock_plan(const struct knock_seen *seen)
{
	return least(knock_plan_wanted(seen), room_in_queue(seen));
}

size_t knock_next_batch(const struct knock_seen *seen)
{
	bool slow_start = !seen->asking || seen->deferred;

	return slow_start && seen->batch < KNOCK_MOST ? 2 * seen->batch : seen->batch;
}

int knock_next_look_ms(int64_t waited_ms)
{
	int64_t ms = waited_ms / 8;

	return ms < KNOCK_TICK_MS ? KNOCK_TICK_MS : ms < KNOCK_SLOW_TICK_MS ? (int)ms : KNOCK_SLOW_TICK_MS;
}
