/* SPDX-License-Identifier: MIT */
/* fate: each thing that keeps a connection from being carried does so alone, and nothing else does. */
#include "model/fate.h"

#include <criterion/criterion.h>

#define IDLE                                                                                                           \
	{                                                                                                              \
		.stands = true, .comes_again = true, .seen_whole = true, .one_set = true, .http_idle = true            \
	}

Test(fate, carries_idle_http_fresh_ones_and_what_a_rule_names)
{
	struct standing http = IDLE, fresh = IDLE, named = IDLE;

	fresh.http_idle = named.http_idle = false;
	fresh.untouched = named.wanted = true;
	cr_assert_eq(fate_of(&http), FATE_CARRY);
	cr_assert_eq(fate_of(&fresh), FATE_CARRY);
	cr_assert_eq(fate_of(&named), FATE_CARRY);
}

Test(fate, ends_other_protocols)
{
	struct standing s = IDLE;

	s.http_idle = false;
	cr_assert_eq(fate_of(&s), FATE_END);
}

#define ENDS(name, change)                                                                                             \
	Test(fate, name)                                                                                               \
	{                                                                                                              \
		struct standing s = IDLE;                                                                              \
                                                                                                                       \
		s.untouched = s.wanted = true;                                                                         \
		change;                                                                                                \
		cr_assert_eq(fate_of(&s), FATE_END);                                                                   \
	}

ENDS(ends_what_has_no_listener_any_more, s.comes_again = false)
ENDS(ends_what_was_read_unseen, s.seen_whole = false)
ENDS(ends_what_is_in_several_epoll_sets, s.one_set = false)
ENDS(ends_what_the_peer_has_ended, s.ended = true)
ENDS(ends_what_a_rule_forbids, s.unwanted = true)

Test(fate, cuts_what_stands_nowhere)
{
	struct standing s = IDLE;

	s.stands = false;
	s.untouched = s.wanted = true;
	cr_assert_eq(fate_of(&s), FATE_CUT);
}
