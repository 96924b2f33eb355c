/* SPDX-License-Identifier: MIT */
/* Plans knocks: how many at once, and when the next ones. Pure decisions on what was seen; deliver/pace.c uses them. */
#ifndef CPR_MODEL_KNOCK_PLAN_H
#define CPR_MODEL_KNOCK_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	KNOCK_FIRST = 2,  /* at the slow start */
	KNOCK_MOST = 256, /* at once: a new client queues behind them */

	KNOCK_CROWD_MS = 50,     /* clients in the queue go before knocks, for so long at most */
	KNOCK_UNHEARD_MS = 1000, /* after so long, a knock that is not accepted no longer delays the next ones */
	KNOCK_UNSERVED_MS = 50,  /* … and one that was accepted, and whose client has no answer */

	/* between two looks while there are connections to knock for, and the program accepts */
	KNOCK_TICK_MS = 2,
	KNOCK_SLOW_TICK_MS = 200,
};

struct knock_seen {
	int64_t waited_ms; /* ms since the last knocks, or since the listener was claimed */
	size_t batch;      /* the next batch of the slow start */

	/* knocks that were made: not accepted yet; accepted, and the client has no answer */
	size_t unaccepted, unserved;
	bool refused; /* a moment ago, a knock found the queue full */

	/* connections in flight without a knock; of these, those with an unread request */
	size_t unknocked, asking;
	bool deferred; /* accept() waits for a client's first data */

	/* the listener, if this process has it: its queue's length, -1 if not known, and its limit */
	bool has_queue;
	int queue, queue_limit;
};

/*
 * Returns how many knocks to make now. Connections with an unread request get theirs at once, behind the clients in the
 * queue: with a pause they would wait for all clients that come meanwhile. The others begin with a few, when the queue
 * is empty. Their number doubles each time the program has answered the last ones.
 *
 * The obvious code knocks for all at once. Servers take such a crowd for overload: apache closes its idle connections
 * when more come in than it has idle threads, and at its start it has few. It closed the very connections that it had
 * just been given. So with a deferred accept(), as apache asks for, all connections wait like this: eight at once were
 * too many for it, even with unread requests.
 *
 * Half of the queue is left to clients: a client that finds it full waits a second for the kernel's next try.
 */
size_t knock_plan(const struct knock_seen *seen);

/* Returns the next batch of the slow start, after some knocks were made. */
size_t knock_next_batch(const struct knock_seen *seen);

/* Returns the ms until the next look. A program that is slow to accept is looked at less often than every 2 ms. */
int knock_next_look_ms(int64_t waited_ms);

#endif
