/* SPDX-License-Identifier: MIT */
/* What the two files of deliver/queue.h share. Holding the guard. */
#ifndef CPR_DELIVER_QUEUE_INSIDE_H
#define CPR_DELIVER_QUEUE_INSIDE_H

#include "deliver/queue.h"
#include "deliver/fdqueue.h"
#include "deliver/deferred.h"
#include "deliver/knock.h"

/*
 * All that was carried from listeners of one name. Once there are knocks, the descriptors are in flight: whichever
 * process of a forking server accepts a knock takes one out.
 */
struct family {
	struct family *after;
	int *fds;
	size_t count, room;
	size_t unknocked; /* in flight, and no knock was made for it yet */
	size_t asking;    /* the first of those, whose clients had asked for something when they were put in flight */
	struct fdqueue flight;
	struct deferred held;
	/* a restart, after which workers put back what they had taken: the owner has no count of it */
	bool called_off;
	int64_t odd_at;   /* since when there is more in flight than knocks; 0: there is not */
	int64_t late_at;  /* when grace was over: what had spoken by then has as long again to be accepted; 0: not yet */
	struct knock_door door;
	int claimer;      /* the process that knocks; the owner as well: a daemon's claimer is gone */
	bool joined;      /* another process carries it (deliver_join) */
	char *name;
};

extern struct family *deliver_families;

struct family *deliver_family_named(const char *name);

/* Made if it is not there, with room for `most` descriptors; NULL: out of memory. */
struct family *deliver_family_for(const char *name, size_t most);

#endif
