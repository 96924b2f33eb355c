/* SPDX-License-Identifier: MIT */
/*
 * Can the program's memory be read there? The kernel is asked, so that a bad pointer costs the program EFAULT, and
 * not its life.
 */
#ifndef CPR_BASE_READABLE_H
#define CPR_BASE_READABLE_H

#include "base/attr.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * For what a wrapper must read before the kernel does: a mask from which the doorbell is taken, the control data of
 * a message. All else is read after the kernel has accepted the call. Where this says false, the wrapper passes the
 * pointer on as it is, and the kernel refuses it.
 *
 * A thread's own stack is remembered, and the last pages elsewhere, so that a call in a loop costs no system call.
 * The price: a remembered page that is unmapped since ends the program. For any handler; keeps errno.
 */
static inline bool readable(const void *at, size_t n);

/* The same of a string, to its end. */
bool readable_string(const char *string);

/* The kernel is not asked any more: a seccomp filter may not know the call. All memory is taken for good then. */
void readable_pause(bool on);

/* Can this int be written? */
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
