/* SPDX-License-Identifier: MIT */
/*
 * In flight: descriptors that are in socket pairs, and so in no process: whichever takes one out has it alone, and its
 * end is its end.
 */
#ifndef CPR_DELIVER_FDQUEUE_H
#define CPR_DELIVER_FDQUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum { FDQUEUE_PER_PAIR = 128 }; /* descriptors in flight in one socket pair */

struct fdqueue {
	int (*pairs)[2];
	size_t pair_count;
	size_t places;          /* of pairs; they stay when a pair could not be made, and when all are closed */
	_Atomic size_t emptied; /* the first of pairs have nothing in flight any more */
	bool fed;               /* they may get more: none of them is passed over */
};

/*
 * Room for n. False: there are no descriptors left for it. Holding the guard, as for all but fdqueue_take and
 * fdqueue_is_empty, which any thread of any process may call.
 */
bool fdqueue_open(struct fdqueue *f, size_t n);

/* One pair more, in a queue to which nothing else has given room. False, as above. Holding the guard. */
bool fdqueue_add_pair(struct fdqueue *f);

/*
 * One more into this pair; or into any that has room. It is closed here then; false: it was not taken, and is the
 * caller's still.
 */
bool fdqueue_put(struct fdqueue *f, size_t pair, int fd);
bool fdqueue_put_anywhere(struct fdqueue *f, int fd);

/* The first of all that are in flight; -1: there is none. One that finds no number free for it is lost. */
int fdqueue_take(struct fdqueue *f);

/*
 * The first of its pair. Only where no other process takes: what finds no number free stays then, and -1 may mean that,
 * too.
 */
int fdqueue_take_alone(struct fdqueue *f, size_t pair);

bool fdqueue_is_empty(struct fdqueue *f);

/* With what is in flight still. */
void fdqueue_close(struct fdqueue *f);

/* ---- in another process, which was exec'ed ---- */

/* The end of pair i that another process needs to take from; and pairs of which the other ends come so. */
int fdqueue_end(const struct fdqueue *f, size_t i);
bool fdqueue_expect(struct fdqueue *f, size_t pairs);
void fdqueue_add_end(struct fdqueue *f, int fd);

/* The side that puts has closed its ends. */
bool fdqueue_is_over(const struct fdqueue *f);

#endif
