/* SPDX-License-Identifier: MIT */
/* Compiler attributes that the whole shim uses: visibility, cleanup, steal, branch hints. */
#ifndef CPR_BASE_ATTR_H
#define CPR_BASE_ATTR_H

#include <stddef.h>

/* Seen from outside the library; everything else is hidden (-fvisibility=hidden). */
#define CPR_EXPORT __attribute__((visibility("default")))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define cpr_printf(fmt, first) __attribute__((format(printf, fmt, first)))

/* A thread-local that a signal handler may read: the dynamic TLS models may call malloc at first touch. */
#define cpr_thread _Thread_local __attribute__((tls_model("initial-exec")))

/* An array that most processes never touch, apart from the variables that each does: see shim/libcpr.ld. */
#define cpr_large __attribute__((section(".bss.large")))

/*
 * In the library's one page of initialised data, which every process has touched. So reading it costs a forked
 * child no page fault.
 */
#define cpr_touched __attribute__((section(".data")))

/*
 * What runs in the constructor of every program, however short: together, in the library's first pages, which the
 * loader has read. Each further page is a fault, and costs more than a system call.
 */
#define cpr_startup __attribute__((section(".text.startup"), noinline))

/* Ends ownership by a cleanup attribute: reads the variable and leaves the empty value behind. */
static inline int steal_fd(int *fd)
{
	int kept = *fd;

	*fd = -1;
	return kept;
}

#define countof(array) (sizeof(array) / sizeof((array)[0]))

#endif
