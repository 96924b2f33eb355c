/* SPDX-License-Identifier: MIT */
/*
 * Held: what was carried from a listener with TCP_DEFER_ACCEPT, and whose client says nothing, until it does. Such a
 * program counts on a first word in what it accepts, and may give it a thread until then (apache does): where the
 * kernel would keep a new client back, we keep the carried ones. In flight, since workers would have copies; the kernel
 * rings our doorbell when there is something to read (O_ASYNC, fcntl(2)).
 */
#ifndef CPR_DELIVER_DEFERRED_H
#define CPR_DELIVER_DEFERRED_H

#include "deliver/fdqueue.h"

struct deferred {
	struct fdqueue flight;
	size_t count;
	size_t places; /* of pairs */
	int pid; /* the process that is rung */
	unsigned missed; /* rings, when all were looked at the last time */
	struct deferred_pair {
		int numbers[FDQUEUE_PER_PAIR]; /* by which the kernel names them */
		size_t named; /* so many of these: a number stays when its connection leaves */
		size_t count;
		_Atomic bool heard;
	} *pairs;
};

/* One more. False: there is no room, and nothing happened. Holding the guard, as for all but deferred_heard. */
bool deferred_keep(struct deferred *h, int fd);

/* The last of these n, as many as there is room for; how many. */
size_t deferred_keep_last(struct deferred *h, const int *fds, size_t n);

/* The doorbell was rung for this number. */
void deferred_heard(struct deferred *h, int fd);

/*
 * Which are asked: those that have rung since the last time; all, since a ring may be lost; and all, whether they have
 * spoken or not.
 */
enum deferred_whom { DEFERRED_RUNG, DEFERRED_ANY, DEFERRED_SILENT_TOO };

/*
 * Those that have spoken go on `into` that flight, and one that has ended is closed; how many go on. By the owner only:
 * a daemon has itself rung from here on.
 */
size_t deferred_hear(struct deferred *h, struct fdqueue *into, enum deferred_whom whom);

/* One of them, as it was before; -1: there is none. */
int deferred_take(struct deferred *h);

/* With what is held still, of which other processes may have taken some: its count here says nothing then. */
void deferred_close(struct deferred *h);

#endif
