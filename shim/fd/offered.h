/* SPDX-License-Identifier: MIT */
/*
 * Listeners and datagram sockets that a service manager has passed by number (LISTEN_FDS, sd_listen_fds(3)). A program
 * that knows this uses the numbers. One that does not, binds the same address, and gets the same socket: until then it
 * is on offer.
 */
#ifndef CPR_FD_OFFERED_H
#define CPR_FD_OFFERED_H

#include "base/attr.h"
#include "model/table.h"

#include <stdatomic.h>
#include <stdbool.h>

extern _Atomic int offered_count;

static inline bool offered_any(void)
{
	return unlikely(atomic_load_explicit(&offered_count, memory_order_relaxed) > 0);
}

/* Once, at the start: which numbers they are; and when inherited_begin has tagged them, that they are on offer. */
void offered_read(void);
void offered_begin(void);

/* The program accepts: what it closes from here on, it means to close. */
void offered_settle(void);

/* The first that is on offer, and the one after `e`; NULL: there is none. Holding the guard. */
struct entry *offered_first(void);
struct entry *offered_after(const struct entry *e);

/* It is an orphan from here on, which the program can claim. Holding the guard. */
void offered_yield(struct entry *e);

/*
 * The number is about to be closed, or overwritten. True: it stays open. A program that closes all numbers at its start
 * does not know what stands there: it is an orphan now. Not holding the guard.
 */
bool offered_hide(int fd);

static inline bool offered_closing(int fd)
{
	return offered_any() && offered_hide(fd);
}

/* Was this process given LISTEN_FDS at its start? Then these numbers are the next generation's too. */
bool offered_was_given(int fd);

/* A word of the next generation's environment: LISTEN_PID, if this process was given one, is this process. */
char *offered_word(char *word);

#endif
