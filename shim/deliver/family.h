/* SPDX-License-Identifier: MIT */
/* Families: what was carried, by the name of its listener. Holding the guard. */
#ifndef CPR_DELIVER_FAMILY_H
#define CPR_DELIVER_FAMILY_H

#include "deliver/fdqueue.h"
#include "deliver/deferred.h"
#include "deliver/knock.h"
#include "model/table.h"

/*
 * All that was carried from listeners of one name. Once there are knocks, the descriptors are in flight: whichever
 * process of a forking server accepts a knock takes one out.
 */
struct family {
	struct family *after;
	int *fds;
	size_t count, room;
	bool stays;       /* those found no memory, or no number, on their way into the queues */
	size_t unknocked; /* in flight, and no knock was made for it yet */
	size_t asking;    /* the first of those, whose clients had asked for something when they were put in flight */
	struct fdqueue flight;
	struct deferred held;
	/* a restart, after which workers put back what they had taken: the owner has no count of it */
	bool called_off;
	int64_t odd_at;   /* since when there is more in flight than knocks; 0: there is not */
	/* when grace was over: what had spoken by then has as long again to be accepted; 0: not yet */
	int64_t late_at;
	struct knock_door door;
	int claimer;      /* the process that knocks; the owner as well: a daemon's claimer is gone */
	bool joined;      /* another process carries it (deliver_join) */
	char *name;
};

extern struct family *family_all;

struct family *family_named(const char *name);

/* Made if it is not there, with room for `most` descriptors; NULL: out of memory. */
struct family *family_for(const char *name, size_t most);

/* Is there room in f->fds for n more, or can it be made? */
bool family_has_room(struct family *f, size_t n);

/* Is there one that another process carries, and from which this one may take? */
bool family_any_joined(void);

#endif
