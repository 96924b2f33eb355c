/* SPDX-License-Identifier: MIT */
/*
 * Can the program's memory be read? We ask the kernel, so that a bad pointer costs the program EFAULT, and not its
 * life.
 */
#ifndef CPR_BASE_READABLE_H
#define CPR_BASE_READABLE_H

#include "base/attr.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Can n bytes at `at` be read? Needed only where a wrapper reads before the kernel does: a mask from which it removes
 * the doorbell, the control data of a message. All else is read after the kernel has accepted the call. If this says
 * false, the wrapper passes the pointer on, and the kernel refuses it.
 *
 * It caches the thread's own stack and the last pages elsewhere, so that a call in a loop costs no system call. The
 * price: the program crashes at a cached page that it has unmapped since. A signal handler may call this. Keeps errno.
 */
static inline bool readable(const void *at, size_t n);

/* Can a string be read up to its NUL? */
bool readable_string(const char *string);

/*
 * true: do not ask the kernel any more, since a seccomp filter may not allow the call. All memory then counts as
 * readable.
 */
void readable_pause(bool on);

/* Can the int at `at` be written? The check adds 0 to it. */
bool writable_int(const int *at);

extern cpr_thread struct readable_stack {
	uintptr_t from, to;
} readable_stack;

bool readable_ask(const void *at, size_t n);

static inline bool readable(const void *at, size_t n)
{
	uintptr_t from = (uintptr_t)at;

	return likely(from >= readable_stack.from && from <= readable_stack.to && n <= readable_stack.to - from) ||
	       readable_ask(at, n);
}

#endif
