/* SPDX-License-Identifier: MIT */
/*
 * A canary's share: two generations take turns with their gates, and a turn is over when so many clients were accepted.
 * All processes of a generation count together.
 */
#ifndef CPR_PROCESS_SHARE_H
#define CPR_PROCESS_SHARE_H

#include "base/attr.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

extern _Atomic bool share_counts; /* a turn of this process is counted */

void share_init(void);

/* The owner's, before the gate opens: its supervisor hears of it at `nonce` when so many are there. 0: no turn. */
void share_ask(uint32_t clients, uint64_t nonce);

/* In each process: the gate opens, or has closed. */
void share_begin(void);
void share_end(void);

/* How many have been accepted in this turn. */
uint32_t share_accepted(void);

/* One more: any thread, any signal handler. */
void share_add(void);

/*
 * accept() of `listener` is about to be called. True: the turn is over, and the gate is about to close; nothing more is
 * accepted. One that blocks only waits a little: the program may have seen by poll() that a client is there, and
 * relies on it.
 */
bool share_is_over(int listener);

static inline bool share_ends(int listener)
{
	return unlikely(atomic_load_explicit(&share_counts, memory_order_relaxed)) && share_is_over(listener);
}

static inline void share_add_if_counted(void)
{
	if (unlikely(atomic_load_explicit(&share_counts, memory_order_relaxed)))
		share_add();
}

#endif
