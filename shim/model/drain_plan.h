/* SPDX-License-Identifier: MIT */
/* Plans a drain: when it freezes connections, releases them, and leaves. Pure decisions on what was seen. */
#ifndef CPR_MODEL_DRAIN_PLAN_H
#define CPR_MODEL_DRAIN_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All times are CLOCK_MONOTONIC, in ns. */

/*
 * How long all connections may stay frozen while one is busy. After that they go on, and the drain tries again. A
 * request that takes seconds may have begun just before the freeze. A client of a protocol without boundaries may never
 * pause. DRAIN_HOLD_NS before --drain is over, all connections are frozen in any case.
 *
 * That alone would cut requests of a server whose requests all take longer, if some are always under way: none of these
 * tries completes. So when half of --drain is over, one try is long. It lasts until every connection is done that was
 * not at the same request a quarter of --drain earlier: such a one is a download or a stream. If there are downloads or
 * streams, the other connections go on once more, and the last freeze begins as early as they then need.
 */
#define DRAIN_HOLD_NS INT64_C(250000000)
#define DRAIN_PAUSE_NS INT64_C(500000000)

/* Time beyond --drain: for workers to pass on their connections, and for a thread to leave a call. */
#define DRAIN_GOODBYE_NS INT64_C(250000000)
#define DRAIN_INSIDE_NS INT64_C(50000000)

/* Added to that for each worker: a thousand of them do not even get a processor in 250 ms. */
#define DRAIN_EACH_NS INT64_C(2000000)

enum drain_phase {
	DRAIN_AWAITS, /* slow requests go on, and every client is served */
	DRAIN_HOLDS,  /* each connection at a boundary is frozen, until all are */
};

/* The long try: still to come, under way, done. */
enum drain_try { TRY_SHORT, TRY_LONG, TRY_LAST };

struct drain_plan {
	enum drain_phase phase;
	enum drain_try try;
	int64_t asked_at, deadline;
	int64_t since;        /* when this phase began */
	int64_t again_at;     /* DRAIN_AWAITS: no freeze before this */
	int64_t last_ns;      /* the last freeze begins so long before the deadline */
	int64_t workers_ns;   /* DRAIN_EACH_NS for each worker that drains */
	size_t slow_workers;  /* workers that may have had a long request when the freeze began */
};

/* What a look has found. */
struct drain_seen {
	int64_t now;
	size_t slow;         /* connections at the same request as at the start of the phase before the freeze */
	size_t slow_workers; /* DRAIN_AWAITS: workers that may have a long request */
	size_t busy;         /* DRAIN_HOLDS: connections that are not at a boundary */
	size_t endless;      /* … of these, streams without an end */
	size_t inside;       /* threads inside a call that could take something */
	size_t workers;      /* workers that have not passed on their connections */
};

enum drain_step {
	DRAIN_GOES_ON, /* look again */
	DRAIN_FREEZES, /* on to DRAIN_HOLDS */
	DRAIN_LETS_GO, /* this try failed: back to DRAIN_AWAITS */
	DRAIN_LEAVES,  /* all is done, or the time is over */
};

/* The plan of a drain that was requested at asked_at and may take ns. */
struct drain_plan drain_plan_of(int64_t asked_at, int64_t ns);

/* Returns the next step. Changes nothing. */
enum drain_step drain_decide(const struct drain_plan *plan, const struct drain_seen *seen);

/* Takes the step: *plan becomes that of the next phase. DRAIN_GOES_ON and DRAIN_LEAVES change nothing. */
void drain_take(struct drain_plan *plan, enum drain_step step, const struct drain_seen *seen);

/*
 * Returns the ms until the next look. The first ones come soon: frozen clients wait, and most restarts are over within
 * 50 ms.
 */
int drain_next_look(const struct drain_plan *plan, int64_t now);

#endif
