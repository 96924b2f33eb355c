/* SPDX-License-Identifier: MIT */
/* Whether a drain is on, and of which kind: for all that takes part in it. drain.c decides it. */
#ifndef CPR_DRAIN_DRAIN_PHASE_H
#define CPR_DRAIN_DRAIN_PHASE_H

#include "base/attr.h"

#include <stdatomic.h>
#include <stdbool.h>

/* A drain is on: reads and accepts are frozen. */
extern _Atomic bool drain_active;

/* It is active, but is it this process's, or one that its parent was in when this was born? */
bool drain_is_ours(void);

static inline bool drain_is_on(void)
{
	return unlikely(atomic_load_explicit(&drain_active, memory_order_relaxed)) && drain_is_ours();
}

/*
 * A drain of handover: what freezes goes to the next generation at once, and the program goes on with the rest, for
 * hours. Listeners have nothing to do with it (fd/gate.h), and what is not carried is left alone.
 */
extern _Atomic bool drain_passes;

#endif
