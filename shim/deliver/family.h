/* SPDX-License-Identifier: MIT */
/* Families: carried connections, by the name of their listener. Holding the guard. */
#ifndef CPR_DELIVER_FAMILY_H
#define CPR_DELIVER_FAMILY_H

#include "deliver/fdqueue.h"
#include "deliver/deferred.h"
#include "deliver/knock.h"
#include "model/table.h"

/*
 * All that was carried from listeners of one name. Once there are knocks, the descriptors are in flight: the process of
 * a forking server that accepts a knock takes one out.
 */
struct family {
	struct family *after;
	int *fds;
	size_t count, room;
	bool stays;       /* those found no memory, or no number, on the way into the queues */
	size_t unknocked; /* in flight without a knock */
	size_t asking;    /* the first of those, which had an unread request when they were put in flight */
	struct fdqueue flight;
	struct deferred held;
	/* after a restart that was called off, workers put back what they had taken: the owner's count is unknown */
	bool called_off;
	int64_t odd_at;   /* since when more are in flight than there are knocks; 0: not so */
	/* end of grace: connections with data by then have as long again to be accepted; 0: not yet */
	int64_t late_at;
	struct knock_door door;
	int claimer;      /* the process that knocks. The owner does as well: a daemon's claimer has ended */
	bool joined;      /* another process has them (deliver_join) */
	char *name;
};

extern struct family *family_all;

struct family *family_named(const char *name);

/* Finds or makes the family, with room for `most` descriptors. Returns NULL without memory. */
struct family *family_for(const char *name, size_t most);

/* Makes room in f->fds for n more. Returns false if that fails. */
bool family_has_room(struct family *f, size_t n);

/* Is there a family of another process from which this one may take? */
bool family_any_joined(void);

#endif
