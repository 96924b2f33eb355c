/* SPDX-License-Identifier: MIT */
/* A seccomp filter that the program installs. From then on the library makes no system call of its own. */
#ifndef CPR_PROCESS_SANDBOX_H
#define CPR_PROCESS_SANDBOX_H

#include "base/attr.h"

#include <stdatomic.h>
#include <stdbool.h>

/*
 * Has this process installed a filter? The filter may end the process at a system call that it does not list (memcached
 * at gettid: "caught syscall 186"). So the guard is not given any more, nothing is tagged or logged, and no task is
 * started. A restart would be refused anyway: the next generation could not lose the filter.
 */
extern _Atomic bool sandbox_on;

static inline bool sandboxed(void)
{
	return unlikely(atomic_load_explicit(&sandbox_on, memory_order_relaxed));
}

/* Registers a hook that runs before the first filter, to prepare what a wrapper will need. At the start only. */
void sandbox_when_entering(void (*prepare)(void));

/* Call these before and, if it failed, after the call that installs a filter. *was belongs to the caller. */
void sandbox_enter(bool *was);
void sandbox_failed(bool was);

#endif
