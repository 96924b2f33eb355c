/* SPDX-License-Identifier: MIT */
/* Checks that the caller holds the guard: a build with DEBUG=1 aborts if it does not. */
#ifndef CPR_BASE_GUARDED_H
#define CPR_BASE_GUARDED_H

#ifdef CPR_DEBUG

/* Set by process/guard.c when the guard is made. NULL in the tools, which use some of these files and have no guard. */
extern void (*guarded_check)(const char *function);

#define assert_guarded() ((void)(guarded_check ? guarded_check(__func__) : (void)0))

#else

#define assert_guarded() ((void)0)

#endif

#endif
