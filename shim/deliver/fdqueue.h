/* SPDX-License-Identifier: MIT */
/* In flight: descriptors in socket pairs belong to no process. The process that takes one out is its only holder. */
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
	bool fed;               /* more may come: an empty pair is not skipped */
};

/*
 * Makes room for n. Returns false if there are no descriptors for it. Holding the guard, as for all except fdqueue_take
 * and fdqueue_is_empty, which any thread of any process may call.
 */
bool fdqueue_open(struct fdqueue *f, size_t n);

/* Adds one pair to a queue that fdqueue_open has not filled. Returns false as above. Holding the guard. */
bool fdqueue_add_pair(struct fdqueue *f);

/*
 * Puts fd into this pair; or into any with room. Closes it here. Returns false if it was not taken, and is still the
 * caller's.
 */
bool fdqueue_put(struct fdqueue *f, size_t pair, int fd);
bool fdqueue_put_anywhere(struct fdqueue *f, int fd);

/* Takes the first of all; -1: there is none. It is lost if no number is free for it. */
int fdqueue_take(struct fdqueue *f);

/*
 * Takes the first of its pair, where no other process takes. It stays if no number is free for it; -1 may mean that,
 * too.
 */
int fdqueue_take_alone(struct fdqueue *f, size_t pair);

bool fdqueue_is_empty(struct fdqueue *f);

/* Closes the queue, with all that is still in flight. */
void fdqueue_close(struct fdqueue *f);

/* ---- in another process, which was exec'ed ---- */

/* Returns the end of pair i from which another process takes; the other two make a queue of such ends. */
int fdqueue_end(const struct fdqueue *f, size_t i);
bool fdqueue_expect(struct fdqueue *f, size_t pairs);
void fdqueue_add_end(struct fdqueue *f, int fd);

/* Has the side that puts closed its ends? */
bool fdqueue_is_over(const struct fdqueue *f);

#endif
