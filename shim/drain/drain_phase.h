/* SPDX-License-Identifier: MIT */
/* Is a drain on, and of which kind? drain.c decides that. */
#ifndef CPR_DRAIN_DRAIN_PHASE_H
#define CPR_DRAIN_DRAIN_PHASE_H

#include "base/attr.h"

#include <stdatomic.h>
#include <stdbool.h>

/* A drain is on: reads and accepts are frozen. */
extern _Atomic bool drain_active;

/* Is the active drain this process's own? It may be one that its parent was in at the fork. */
bool drain_is_ours(void);

static inline bool drain_is_on(void)
{
	return unlikely(atomic_load_explicit(&drain_active, memory_order_relaxed)) && drain_is_ours();
}

/*
 * A drain of handover. Frozen connections go to the next generation at once, and the program goes on with the others,
 * for hours. It does not concern listeners (fd/gate.h), and closes nothing.
 */
extern _Atomic bool drain_passes;

#endif
