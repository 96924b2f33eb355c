/* SPDX-License-Identifier: MIT */
/*
 * Held: what was carried from a listener with TCP_DEFER_ACCEPT, and whose client says nothing, until it does. Such a program counts on a first word in what it accepts, and may give
 * it a thread until then (apache does): where the kernel would keep a new client back, we keep the carried ones. In flight, since workers would have copies; the kernel
 * rings our doorbell when there is something to read (O_ASYNC, fcntl(2)).
 */
#ifndef CPR_HELD_H
#define CPR_HELD_H

#include "deliver/fdqueue.h"

struct held {
	struct flight flight;
	size_t count;
	int pid; /* who is rung */
	unsigned missed; /* rings, when all were looked at the last time */
	struct held_pair {
		int numbers[FLIGHT_PER_PAIR]; /* by which the kernel names them */
		size_t count;
		_Atomic bool heard;
	} *pairs;
};

/* Keeps these n. False: there is no room, and nothing happened. Holding the guard, as for all but held_heard. */
bool held_keep(struct held *h, const int *fds, size_t n);

/* The doorbell was rung for this number. */
void held_heard(struct held *h, int fd);

/* Of whom one asks: who has rung since the last time; all, since a ring may be lost; and all, whether they have spoken or not. */
enum held_whom { HELD_RUNG, HELD_ANY, HELD_SILENT_TOO };

/* Those who have spoken go on `into` that flight, and who has ended is closed; how many go on. By the owner only: a daemon has itself rung from here on. */
size_t held_hear(struct held *h, struct flight *into, enum held_whom whom);

/* One of them, as it was before; -1: there is none. */
int held_take(struct held *h);

/* With what is held still, of which other processes may have taken some: its count here says nothing then. */
void held_close(struct held *h);

#endif
