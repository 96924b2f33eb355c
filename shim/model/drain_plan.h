/* SPDX-License-Identifier: MIT */
/* When a drain holds its clients back, lets them go on, and leaves: pure decisions on what was seen. */
#ifndef CPR_MODEL_DRAIN_PLAN_H
#define CPR_MODEL_DRAIN_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All times are CLOCK_MONOTONIC, in ns. */

/*
 * For so long all connections may be held back while one is busy. Then they are let go on, and the drain tries again: a
 * request that takes seconds may have begun a moment before the freeze, or a client of a protocol without boundaries
 * may never pause. So long before --drain is over, all are frozen in any case.
 *
 * That alone would cut requests of a server that all take longer, and of which some are always under way: no such try
 * comes to its end, and the last one least of all. So when half of --drain is over, one try lasts as long as it takes
 * until all are done but the connections that were at the same request a quarter earlier: a download, a stream. If
 * there are such, the others are let go on once more, and the last freeze comes as early as they then need.
 */
#define DRAIN_HOLD_NS INT64_C(250000000)
#define DRAIN_PAUSE_NS INT64_C(500000000)

/* What is given beyond --drain: to workers, to pass on what they hold; to a thread, to come out of a call. */
#define DRAIN_GOODBYE_NS INT64_C(250000000)
#define DRAIN_INSIDE_NS INT64_C(50000000)

/* For each worker, all this may take so much longer: a thousand of them do not even get a processor in 250 ms. */
#define DRAIN_EACH_NS INT64_C(2000000)

enum drain_phase {
	DRAIN_AWAITS, /* slow requests are awaited, and every client is served */
	DRAIN_HOLDS,  /* what stands at a boundary is frozen, until all connections do */
};

/* The try that lasts as long as it takes: is to come, is this one, was made. */
enum drain_try { TRY_SHORT, TRY_LONG, TRY_LAST };

struct drain_plan {
	enum drain_phase phase;
	enum drain_try try;
	int64_t asked_at, deadline;
	int64_t since;        /* when this phase began */
	int64_t again_at;     /* DRAIN_AWAITS: no freeze before this */
	int64_t last_ns;      /* so long before the deadline the last freeze begins */
	int64_t workers_ns;   /* DRAIN_EACH_NS for all workers that were told */
	size_t slow_workers;  /* when the freeze began: workers that may have a request which takes long */
};

/* What a look has found. */
struct drain_seen {
	int64_t now;
	size_t slow;         /* connections at the same request as when the phase before the freeze began */
	size_t slow_workers; /* DRAIN_AWAITS: workers that have not said that they have none */
	size_t busy;         /* DRAIN_HOLDS: connections that do not stand at a boundary */
	size_t endless;      /* … of these, streams that never will */
	size_t inside;       /* threads inside a call that could take something */
	size_t workers;      /* workers that have not passed on what they hold */
};

enum drain_step {
	DRAIN_GOES_ON, /* look again */
	DRAIN_FREEZES, /* on to DRAIN_HOLDS */
	DRAIN_LETS_GO, /* this try is in vain: back to DRAIN_AWAITS */
	DRAIN_LEAVES,  /* all are done, or the time is over */
};

/* A drain that was asked for at `asked_at` and may take `ns`. */
struct drain_plan drain_plan_of(int64_t asked_at, int64_t ns);

/* What to do now. Changes nothing. */
enum drain_step drain_decide(const struct drain_plan *plan, const struct drain_seen *seen);

/* Takes the step: *plan becomes that of the next phase. Nothing changes for DRAIN_GOES_ON and DRAIN_LEAVES. */
void drain_take(struct drain_plan *plan, enum drain_step step, const struct drain_seen *seen);

/*
 * ms until the next look. Soon at first: clients that are held back wait for it, and most restarts are over within 50
 * ms.
 */
int drain_next_look(const struct drain_plan *plan, int64_t now);

#endif
