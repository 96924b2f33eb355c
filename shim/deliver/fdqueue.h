/* SPDX-License-Identifier: MIT */
/* In flight: descriptors that are in socket pairs, and so in no process: whichever takes one out has it alone, and its end is its end. */
#ifndef CPR_FLIGHT_H
#define CPR_FLIGHT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum { FLIGHT_PER_PAIR = 128 }; /* descriptors in flight in one socket pair */

struct flight {
	int (*pairs)[2];
	size_t pair_count;
	_Atomic size_t emptied; /* the first of pairs have nothing in flight any more */
	bool fed;               /* they may get more: none of them is passed over */
};

/* Room for n. False: there are no descriptors left for it. Holding the guard, as for all but flight_take and flight_is_empty, which any thread of any process may call. */
bool flight_open(struct flight *f, size_t n);

/* One more into this pair; or into any that has room. It is closed here then; false: it was not taken, and is the caller's still. */
bool flight_put(struct flight *f, size_t pair, int fd);
bool flight_put_anywhere(struct flight *f, int fd);

/* The first of all that are in flight; -1: there is none. One that finds no number free for it is lost. */
int flight_take(struct flight *f);

/* The first of its pair. Only where nobody else takes: what finds no number free stays then, and -1 may mean that, too. */
int flight_take_alone(struct flight *f, size_t pair);

bool flight_is_empty(struct flight *f);

/* With what is in flight still. */
void flight_close(struct flight *f);

/* ---- in another process, which was exec'ed ---- */

/* The end of pair i that another process needs to take from; and pairs of which the other ends come so. */
int flight_end(const struct flight *f, size_t i);
bool flight_expect(struct flight *f, size_t pairs);
void flight_add_end(struct flight *f, int fd);

/* Whoever puts has closed its ends. */
bool flight_is_over(const struct flight *f);

#endif
