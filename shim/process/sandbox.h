/* SPDX-License-Identifier: MIT */
/* A seccomp filter that the program installs: from then on, no system call is made because of us. */
#ifndef CPR_PROCESS_SANDBOX_H
#define CPR_PROCESS_SANDBOX_H

#include "base/attr.h"

#include <stdatomic.h>
#include <stdbool.h>

/*
 * Has this process installed a filter? It may end the process at a system call that it does not know (memcached at
 * gettid: "caught syscall 186"). So from then on the guard is not given, nothing is tagged or logged, and no task
 * is started. A restart would be refused anyway: the next generation could not lose the filter.
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
