/* SPDX-License-Identifier: MIT */
/* A seccomp filter that the program installs: from then on, no system call is made because of us. */
#ifndef CPR_PROCESS_SANDBOX_H
#define CPR_PROCESS_SANDBOX_H

#include "base/attr.h"

#include <stdatomic.h>
#include <stdbool.h>

/*
 * Has this process installed one? Its filter may end it for a gettid(2) that it has not foreseen (memcached: "caught syscall 186"). So the guard is not given, nothing is
 * tagged, no task is started and nothing is logged any more. A restart would be refused anyway: the next generation cannot be without the filter.
 */
extern _Atomic bool sandbox_on;

static inline bool sandboxed(void)
{
	return unlikely(atomic_load_explicit(&sandbox_on, memory_order_relaxed));
}

/* Registers a hook that runs before the first filter: what a wrapper will need must be known by then. At the start. */
void sandbox_when_entering(void (*prepare)(void));

/* Around the call that installs a filter; *was belongs to the caller. */
void sandbox_enter(bool *was);
void sandbox_failed(bool was);

#endif
