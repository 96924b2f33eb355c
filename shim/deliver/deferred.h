/* SPDX-License-Identifier: MIT */
/*
 * Deferred: carried connections of a listener with TCP_DEFER_ACCEPT whose client has sent nothing yet. Such a program
 * expects data on each connection that it accepts, and may block a thread until then (apache does). The kernel holds
 * new clients back, and we hold the carried ones. They are in flight, since workers would otherwise have copies. The
 * kernel rings our doorbell when there is something to read (O_ASYNC, fcntl(2)).
 */
#ifndef CPR_DELIVER_DEFERRED_H
#define CPR_DELIVER_DEFERRED_H

#include "deliver/fdqueue.h"

struct deferred {
	struct fdqueue flight;
	size_t count;
	size_t places; /* of pairs */
	int pid; /* the process that the kernel signals */
	unsigned missed; /* missed rings, at the last look at all */
	struct deferred_pair {
		int numbers[FDQUEUE_PER_PAIR]; /* the numbers by which the kernel names them */
		size_t named; /* how many of these; a number stays when its connection leaves */
		size_t count;
		_Atomic bool heard;
	} *pairs;
};

/*
 * Adds one. Returns false if there is no room, and nothing has changed. Holding the guard, as for all but
 * deferred_heard.
 */
bool deferred_keep(struct deferred *h, int fd);

/* Adds the last of these n, as many as there is room for. Returns how many. */
size_t deferred_keep_last(struct deferred *h, const int *fds, size_t n);

/* The kernel signalled this number. */
void deferred_heard(struct deferred *h, int fd);

/*
 * Which to look at: those that have rung since the last look; all, since a ring may be lost; all, and take them even
 * without data.
 */
enum deferred_whom { DEFERRED_RUNG, DEFERRED_ANY, DEFERRED_SILENT_TOO };

/*
 * Moves those with data to `into`, and closes one that has ended. Returns how many it moved. For the owner only: a
 * daemon becomes the process that is signalled.
 */
size_t deferred_hear(struct deferred *h, struct fdqueue *into, enum deferred_whom whom);

/* Takes one of them, restored to how it was; -1: there is none. */
int deferred_take(struct deferred *h);

/* Closes it with all that it still holds. Other processes may have taken some, so its count here means nothing then. */
void deferred_close(struct deferred *h);

#endif
