/* SPDX-License-Identifier: MIT */
/* What the two files of deliver.h share. Holding the guard, but for deliver_take and deliver_is_empty. */
#ifndef CPR_DELIVER_INSIDE_H
#define CPR_DELIVER_INSIDE_H

#include "deliver.h"
#include "knock.h"

/* All that was carried from listeners of one name. Once there are knocks, the descriptors are in flight in socket pairs: whichever process of a forking
   server accepts a knock takes one out, and no other process ever has held it, so that its end is its end. */
struct family {
	struct family *after;
	int *fds;
	size_t count, room;
	size_t unknocked; /* in flight, and no knock was made for it yet */
	size_t asking;    /* the first of those, whose clients had asked for something when they were put in flight */
	_Atomic size_t emptied;   /* the first of pairs have nothing in flight any more */
	struct knock_door door;
	int claimer;      /* who knocks; the owner as well: a daemon's claimer is gone */
	int (*pairs)[2];
	size_t pair_count;
	bool joined;      /* another process carries it (deliver_join) */
	char *name;
};

extern struct family *deliver_families;

struct family *deliver_family_named(const char *name);

/* Made if it is not there, with room for `most` descriptors; NULL: out of memory. */
struct family *deliver_family_for(const char *name, size_t most);

/* One carried connection that is in flight, or -1. */
int deliver_take(struct family *f);

/* In flight still: nobody has accepted that knock yet. */
bool deliver_is_empty(struct family *f);
void deliver_close_pairs(struct family *f);

#endif
