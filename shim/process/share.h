/* SPDX-License-Identifier: MIT */
/*
 * A canary's share. Two generations take turns with their gates, and a turn ends after a number of accepted clients.
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

/* For the owner, before the gate opens: after so many clients its supervisor gets a message at `nonce`. 0: no turn. */
void share_ask(uint32_t clients, uint64_t nonce);

/* For each process: the gate opens; it has closed. */
void share_begin(void);
void share_end(void);

/* Returns the number of accepted clients in this turn. */
uint32_t share_accepted(void);

/* Counts one more. Any thread and any signal handler may call it. */
void share_add(void);

/*
 * Call it before accept() of `listener`. True: the turn is over, the gate is about to close, and nothing more is
 * accepted. On a blocking listener it only waits a little: the program may have seen a client by poll(), and rely on
 * that.
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
