/* SPDX-License-Identifier: MIT */
/* How many knocks at once, and when the next ones: pure decisions on what was seen. deliver/pace.c makes them. */
#ifndef CPR_MODEL_KNOCK_PLAN_H
#define CPR_MODEL_KNOCK_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	KNOCK_FIRST = 2,  /* of the slow start */
	KNOCK_MOST = 256, /* at once: a new client stands behind them */

	KNOCK_CROWD_MS = 50,     /* so long at the most, clients that wait to be accepted go before knocks */
	KNOCK_UNHEARD_MS = 1000, /* a knock that is not accepted holds up the next ones no longer */
	KNOCK_UNSERVED_MS = 50,  /* … and one that was accepted, but whose client is not answered */

	/* between two looks while there is more to knock for, and the program takes what it is given */
	KNOCK_TICK_MS = 2,
	KNOCK_SLOW_TICK_MS = 200,
};

struct knock_seen {
	int64_t waited_ms; /* since the last knocks, or since the listener was claimed */
	size_t batch;      /* so many at once are next in the slow start */

	/* of the knocks that were made: not accepted yet; accepted, and the client not answered */
	size_t unaccepted, unserved;
	bool refused; /* one found the queue full, a moment ago */

	/* of the connections in flight: those without a knock; the first of these, whose clients have asked */
	size_t unknocked, asking;
	bool deferred; /* accept() waits for a client's first word */

	/* the listener, if this process has it (has_queue): what waits there, -1 unknown, and its limit */
	bool has_queue;
	int queue, queue_limit;
};

/*
 * How many knocks now. For clients that have asked, at once, and behind those that have come to the queue before: any
 * pause makes them wait for all that come meanwhile, and come again. For the others a few at first, when the queue is
 * empty, and twice as many each time the program has answered the last ones.
 *
 * The obvious code knocks for all at once: but servers take a crowd at the door for overload. Apache ends its idle
 * connections when more come in than it has idle threads, and in the moment of its start it has but a few: it closed
 * the very connections that it had been given. So where accept() is deferred until a word has come, as Apache asks for,
 * all wait so: eight at once, for clients that had asked, were too many for it.
 *
 * Half the queue is left to clients: one that finds it full waits a second for the kernel's next try.
 */
size_t knock_plan(const struct knock_seen *seen);

/* The batch of the slow start after some knocks were made. */
size_t knock_next_batch(const struct knock_seen *seen);

/* ms until the next look: a program that is slow to take what it is given is not looked at every 2 ms for it. */
int knock_next_look_ms(int64_t waited_ms);

#endif
