/* SPDX-License-Identifier: MIT */
/*
 * Listeners and datagram sockets that a service manager passed by number (LISTEN_FDS, sd_listen_fds(3)). A program that
 * supports this uses the numbers. Any other program binds the same address and gets the same socket; until then the
 * socket is on offer.
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

/*
 * Called once each, at the start: reads which numbers they are; after inherited_begin has tagged them, puts them on
 * offer.
 */
void offered_read(void);
void offered_begin(void);

/* The program accepts: what it closes from now on is closed. */
void offered_settle(void);

/* Return the first entry on offer, and the one after `e`; NULL: there is none. Holding the guard. */
struct entry *offered_first(void);
struct entry *offered_after(const struct entry *e);

/* Makes it an orphan, which the program can claim. Holding the guard. */
void offered_yield(struct entry *e);

/*
 * The number is about to be closed, or overwritten. Returns true if it must stay open: a program that closes all
 * numbers at its start does not know this one, which becomes an orphan. Not holding the guard.
 */
bool offered_hide(int fd);

static inline bool offered_closing(int fd)
{
	return offered_any() && offered_hide(fd);
}

/* Was this number given by LISTEN_FDS at the start? Then the next generation gets it, too. */
bool offered_was_given(int fd);

/* For the next generation's environment: LISTEN_PID becomes this process's pid, if it had one. */
char *offered_word(char *word);

#endif
