/* SPDX-License-Identifier: MIT */
/* When a drain holds its clients back, lets them go on, and leaves. */
#include "model/drain_plan.h"

enum { FIRST_LOOK_MS = 1, LOOK_MS = 5, SLOW_LOOK_MS = 20 };

#define FIRST_NS INT64_C(30000000)
#define SOON_NS INT64_C(50000000)

struct drain_plan drain_plan_of(int64_t asked_at, int64_t ns)
{
	return (struct drain_plan){
		.asked_at = asked_at, .deadline = asked_at + ns, .since = asked_at, .last_ns = DRAIN_HOLD_NS};
}

static int64_t quarter(const struct drain_plan *plan)
{
	return (plan->deadline - plan->asked_at) / 4;
}

/* ---- awaiting slow requests ---- */

static bool must_freeze(const struct drain_plan *plan, int64_t now)
{
	return now >= plan->deadline - plan->last_ns ||
	       (plan->try == TRY_SHORT && now - plan->asked_at >= 2 * quarter(plan));
}

static enum drain_step decide_awaiting(const struct drain_plan *plan, const struct drain_seen *seen)
{
	if (must_freeze(plan, seen->now))
		return DRAIN_FREEZES;
	return seen->now < plan->again_at || seen->slow + seen->slow_workers > 0 ? DRAIN_GOES_ON : DRAIN_FREEZES;
}

/* ---- holding ---- */

/* All that is busy here are streams: nothing is learned by holding the others any longer. */
static bool only_streams(const struct drain_seen *seen)
{
	return seen->busy && seen->busy == seen->endless && !seen->workers;
}

/* Are connections still busy that were not at the same request a quarter earlier? These may come to a boundary yet. */
static bool may_be_done_yet(const struct drain_plan *plan, const struct drain_seen *seen)
{
	int64_t held = seen->now - plan->since;
	bool hopeful = seen->busy > seen->slow + seen->endless || seen->workers > plan->slow_workers;

	return hopeful && (held < quarter(plan) || seen->now >= plan->deadline - held * 2);
}

static bool is_in_vain(const struct drain_plan *plan, const struct drain_seen *seen)
{
	int64_t held = seen->now - plan->since;

	if (!seen->busy && !seen->workers)
		return false;
	if (held <= DRAIN_HOLD_NS + plan->workers_ns && !(plan->try == TRY_LONG && only_streams(seen)))
		return false;
	if (seen->now >=
	    plan->deadline - plan->last_ns - DRAIN_PAUSE_NS - plan->workers_ns) /* there is no time for another try */
		return false;
	return plan->try != TRY_LONG || only_streams(seen) || !may_be_done_yet(plan, seen);
}

/* Workers stop at the same deadline, and then have to say what they hold. */
static bool plan_is_over(const struct drain_plan *plan, const struct drain_seen *seen)
{
	int64_t late = seen->now - plan->deadline;

	return (!seen->busy || late >= 0) && (!seen->inside || late >= DRAIN_INSIDE_NS) &&
	       (!seen->workers || late >= DRAIN_GOODBYE_NS + plan->workers_ns);
}

/* ---- the plan ---- */

enum drain_step drain_decide(const struct drain_plan *plan, const struct drain_seen *seen)
{
	if (plan->phase == DRAIN_AWAITS)
		return decide_awaiting(plan, seen);
	if (is_in_vain(plan, seen))
		return DRAIN_LETS_GO;
	return plan_is_over(plan, seen) ? DRAIN_LEAVES : DRAIN_GOES_ON;
}

static void plan_freeze(struct drain_plan *plan, const struct drain_seen *seen)
{
	if (plan->try == TRY_SHORT &&
	    seen->now - plan->asked_at >= quarter(plan)) /* what is slow has been so since before that */
		plan->try = TRY_LONG;
	plan->phase = DRAIN_HOLDS;
	plan->since = seen->now;
	plan->slow_workers = seen->slow_workers;
	plan->workers_ns = 0;
}

static void plan_let_go(struct drain_plan *plan, const struct drain_seen *seen)
{
	int64_t held = seen->now - plan->since;

	if (plan->try == TRY_LONG) {
		plan->try = TRY_LAST;
		plan->last_ns = held < DRAIN_HOLD_NS ? DRAIN_HOLD_NS : held + held / 2;
	}
	plan->phase = DRAIN_AWAITS;
	plan->since = seen->now;
	plan->again_at = seen->now + DRAIN_PAUSE_NS;
}

void drain_take(struct drain_plan *plan, enum drain_step step, const struct drain_seen *seen)
{
	if (step == DRAIN_FREEZES)
		plan_freeze(plan, seen);
	else if (step == DRAIN_LETS_GO)
		plan_let_go(plan, seen);
}

int drain_next_look(const struct drain_plan *plan, int64_t now)
{
	int64_t past = now - (plan->phase == DRAIN_AWAITS ? plan->asked_at : plan->since);

	if (past < FIRST_NS)
		return FIRST_LOOK_MS;
	return past < SOON_NS || plan->phase == DRAIN_HOLDS ? LOOK_MS : SLOW_LOOK_MS;
}
