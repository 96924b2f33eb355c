/* SPDX-License-Identifier: MIT */
/* The decisions of a drain, one case each. Times are in ms from when the restart was asked for; --drain is 5 s. */
#include "model/drain_plan.h"

#include <criterion/criterion.h>

#define MS INT64_C(1000000)
#define START (INT64_C(100000) * MS)

static struct drain_plan awaiting(void)
{
	return drain_plan_of(START, 5000 * MS);
}

static struct drain_plan holding_since(int64_t ms, enum drain_try try)
{
	struct drain_plan plan = awaiting();

	plan.phase = DRAIN_HOLDS;
	plan.try = try;
	plan.since = START + ms * MS;
	return plan;
}

static struct drain_seen at(int64_t ms)
{
	return (struct drain_seen){.now = START + ms * MS};
}

/* ---- awaiting ---- */

Test(drain_plan, freezes_at_once_if_nothing_is_slow)
{
	struct drain_plan plan = awaiting();
	struct drain_seen seen = at(0);

	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_FREEZES);
	drain_take(&plan, DRAIN_FREEZES, &seen);
	cr_assert_eq(plan.phase, DRAIN_HOLDS);
	cr_assert_eq(plan.since, seen.now);
	cr_assert_eq(plan.try, TRY_SHORT);
}

Test(drain_plan, awaits_a_slow_request_here_and_in_workers)
{
	struct drain_plan plan = awaiting();
	struct drain_seen seen = at(1000);

	seen.slow = 1;
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_GOES_ON);
	seen.slow = 0;
	seen.slow_workers = 1;
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_GOES_ON);
	seen.slow_workers = 0;
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_FREEZES);
}

Test(drain_plan, tries_for_long_when_half_of_the_time_is_over)
{
	struct drain_plan plan = awaiting();
	struct drain_seen seen = at(2499);

	seen.slow = 1;
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_GOES_ON);
	seen.now = START + 2500 * MS;
	seen.slow_workers = 3;
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_FREEZES);
	drain_take(&plan, DRAIN_FREEZES, &seen);
	cr_assert_eq(plan.try, TRY_LONG);
	cr_assert_eq(plan.slow_workers, 3);
}

Test(drain_plan, freezes_in_time_for_the_last_try)
{
	struct drain_plan plan = awaiting();
	struct drain_seen seen = at(4749);

	plan.try = TRY_LAST;
	seen.slow = 1;
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_GOES_ON);
	seen.now = START + 4750 * MS;
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_FREEZES);
}

Test(drain_plan, pauses_between_two_tries)
{
	struct drain_plan plan = holding_since(0, TRY_SHORT);
	struct drain_seen seen = at(251);

	seen.busy = 1;
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_LETS_GO);
	drain_take(&plan, DRAIN_LETS_GO, &seen);
	cr_assert_eq(plan.phase, DRAIN_AWAITS);
	seen = at(700);
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_GOES_ON);
	seen = at(751);
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_FREEZES);
}

/* ---- holding ---- */

Test(drain_plan, leaves_when_all_are_done)
{
	struct drain_plan plan = holding_since(0, TRY_SHORT);
	struct drain_seen seen = at(3);

	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_LEAVES);
	seen.inside = 1;
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_GOES_ON);
}

Test(drain_plan, holds_for_a_quarter_of_a_second)
{
	struct drain_plan plan = holding_since(0, TRY_SHORT);
	struct drain_seen seen = at(250);

	seen.busy = 1;
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_GOES_ON);
	seen = at(251);
	seen.workers = 1;
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_LETS_GO);
	plan.workers_ns = 100 * MS; /* many workers: all takes longer */
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_GOES_ON);
}

Test(drain_plan, holds_on_where_there_is_no_time_for_another_try)
{
	struct drain_plan plan = holding_since(3000, TRY_SHORT);
	struct drain_seen seen = at(4250);

	seen.busy = 1;
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_GOES_ON);
}

Test(drain_plan, long_try_holds_while_requests_may_end)
{
	struct drain_plan plan = holding_since(2500, TRY_LONG);
	struct drain_seen seen = at(3500);

	seen.busy = 2;
	seen.slow = 1;
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_GOES_ON);
	seen.slow = 2; /* only what was at it before is left: a download */
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_LETS_GO);
}

Test(drain_plan, long_try_tells_when_the_last_one_must_begin)
{
	struct drain_plan plan = holding_since(2500, TRY_LONG);
	struct drain_seen seen = at(3100);

	seen.busy = seen.slow = 1;
	drain_take(&plan, DRAIN_LETS_GO, &seen);
	cr_assert_eq(plan.try, TRY_LAST);
	cr_assert_eq(plan.last_ns, 900 * MS);
}

Test(drain_plan, long_try_learns_nothing_from_streams)
{
	struct drain_plan plan = holding_since(2500, TRY_LONG);
	struct drain_seen seen = at(2501);

	seen.busy = seen.endless = 2;
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_LETS_GO);
	drain_take(&plan, DRAIN_LETS_GO, &seen);
	cr_assert_eq(plan.last_ns, DRAIN_HOLD_NS);
	plan = holding_since(2500, TRY_LONG);
	seen.workers = 1; /* something else is awaited as well */
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_GOES_ON);
}

Test(drain_plan, leaves_at_the_deadline_with_what_is_busy)
{
	struct drain_plan plan = holding_since(4750, TRY_LAST);
	struct drain_seen seen = at(4999);

	seen.busy = 1;
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_GOES_ON);
	seen.now = START + 5000 * MS;
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_LEAVES);
}

Test(drain_plan, gives_workers_and_threads_a_moment_beyond_the_deadline)
{
	struct drain_plan plan = holding_since(4750, TRY_LAST);
	struct drain_seen seen = at(5049);

	seen.inside = 1;
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_GOES_ON);
	seen = at(5050);
	seen.inside = 1;
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_LEAVES);
	seen = at(5249);
	seen.workers = 1;
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_GOES_ON);
	seen = at(5250);
	seen.workers = 1;
	cr_assert_eq(drain_decide(&plan, &seen), DRAIN_LEAVES);
}

/* ---- looking ---- */

Test(drain_plan, looks_soon_at_first_and_often_while_clients_are_held)
{
	struct drain_plan plan = awaiting();

	cr_assert_eq(drain_next_look(&plan, START), 1);
	cr_assert_eq(drain_next_look(&plan, START + 40 * MS), 5);
	cr_assert_eq(drain_next_look(&plan, START + 100 * MS), 20);
	plan = holding_since(100, TRY_SHORT);
	cr_assert_eq(drain_next_look(&plan, START + 105 * MS), 1);
	cr_assert_eq(drain_next_look(&plan, START + 400 * MS), 5);
}
