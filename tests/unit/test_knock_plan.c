/* SPDX-License-Identifier: MIT */
/* How many knocks at once, one case each. */
#include "model/knock_plan.h"

#include <criterion/criterion.h>

/* 1,000 idle connections in flight, and an empty queue of 128. */
static struct knock_seen idle(void)
{
	return (struct knock_seen){
		.batch = KNOCK_FIRST, .unknocked = 1000, .has_queue = true, .queue = 0, .queue_limit = 128};
}

/* ---- of idle clients ---- */

Test(knock_plan, begins_with_two_at_an_empty_queue)
{
	struct knock_seen seen = idle();

	cr_assert_eq(knock_plan(&seen), 2);
}

Test(knock_plan, knocks_for_no_more_than_there_are)
{
	struct knock_seen seen = idle();

	seen.batch = KNOCK_MOST;
	seen.unknocked = 3;
	cr_assert_eq(knock_plan(&seen), 3);
	seen.unknocked = 0;
	cr_assert_eq(knock_plan(&seen), 0);
}

Test(knock_plan, doubles_until_the_most)
{
	struct knock_seen seen = idle();
	size_t steps = 0;

	for (; knock_next_batch(&seen) != seen.batch; steps++)
		seen.batch = knock_next_batch(&seen);
	cr_assert_eq(seen.batch, KNOCK_MOST);
	cr_assert_eq(steps, 7);
}

Test(knock_plan, lets_a_crowd_of_clients_go_first)
{
	struct knock_seen seen = idle();

	seen.queue = 1;
	seen.waited_ms = KNOCK_CROWD_MS - 1;
	cr_assert_eq(knock_plan(&seen), 0);
	seen.waited_ms = KNOCK_CROWD_MS;
	cr_assert_eq(knock_plan(&seen), 2);
}

Test(knock_plan, the_crowd_matters_at_the_first_only)
{
	struct knock_seen seen = idle();

	seen.queue = 1;
	seen.batch = 4;
	cr_assert_eq(knock_plan(&seen), 4);
}

Test(knock_plan, waits_where_the_queue_is_anothers)
{
	struct knock_seen seen = idle();

	seen.has_queue = false;
	cr_assert_eq(knock_plan(&seen), 0);
	seen.waited_ms = KNOCK_CROWD_MS;
	cr_assert_eq(knock_plan(&seen), 2);
}

/* ---- a program that has something to do ---- */

Test(knock_plan, awaits_an_accept)
{
	struct knock_seen seen = idle();

	seen.batch = 64;
	seen.unaccepted = 1;
	seen.waited_ms = KNOCK_UNHEARD_MS - 1;
	cr_assert_eq(knock_plan(&seen), 0);
	seen.waited_ms = KNOCK_UNHEARD_MS;
	cr_assert_eq(knock_plan(&seen), 64);
}

Test(knock_plan, awaits_an_answer)
{
	struct knock_seen seen = idle();

	seen.batch = 64;
	seen.unserved = 1;
	seen.waited_ms = KNOCK_UNSERVED_MS - 1;
	cr_assert_eq(knock_plan(&seen), 0);
	seen.waited_ms = KNOCK_UNSERVED_MS;
	cr_assert_eq(knock_plan(&seen), 64);
}

Test(knock_plan, rests_after_a_full_queue)
{
	struct knock_seen seen = idle();

	seen.batch = 64;
	seen.asking = 10;
	seen.refused = true;
	cr_assert_eq(knock_plan(&seen), 0);
}

/* ---- the queue ---- */

Test(knock_plan, leaves_half_the_queue_to_clients)
{
	struct knock_seen seen = idle();

	seen.batch = KNOCK_MOST;
	seen.queue = 40;
	cr_assert_eq(knock_plan(&seen), 25);
	seen.queue = 64;
	cr_assert_eq(knock_plan(&seen), 1);
	seen.queue = 65;
	cr_assert_eq(knock_plan(&seen), 0);
}

Test(knock_plan, a_queue_that_does_not_say_is_taken_for_empty)
{
	struct knock_seen seen = idle();

	seen.batch = KNOCK_MOST;
	seen.queue = -1;
	cr_assert_eq(knock_plan(&seen), KNOCK_MOST);
}

/* ---- of clients that have asked ---- */

Test(knock_plan, clients_that_have_asked_come_at_once)
{
	struct knock_seen seen = idle();

	seen.asking = 30;
	seen.unaccepted = 5;
	cr_assert_eq(knock_plan(&seen), 30);
	cr_assert_eq(knock_next_batch(&seen), KNOCK_FIRST);
}

Test(knock_plan, a_program_has_so_many_to_answer_at_the_most)
{
	struct knock_seen seen = idle();

	seen.queue_limit = 4096;
	seen.asking = 1000;
	seen.unserved = KNOCK_MOST - 10;
	cr_assert_eq(knock_plan(&seen), 10);
	seen.unserved = KNOCK_MOST;
	cr_assert_eq(knock_plan(&seen), 0);
}

Test(knock_plan, where_accept_is_deferred_all_come_slowly)
{
	struct knock_seen seen = idle();

	seen.asking = 30;
	seen.deferred = true;
	cr_assert_eq(knock_plan(&seen), 2);
	cr_assert_eq(knock_next_batch(&seen), 4);
}

/* ---- the next look ---- */

Test(knock_plan, a_slow_program_is_looked_at_less_often)
{
	cr_assert_eq(knock_next_look_ms(0), KNOCK_TICK_MS);
	cr_assert_eq(knock_next_look_ms(800), 100);
	cr_assert_eq(knock_next_look_ms(60000), KNOCK_SLOW_TICK_MS);
}
