/* SPDX-License-Identifier: MIT */
/* "Holding the guard", checked: a build with DEBUG=1 ends a process that calls such a function without it. */
#ifndef CPR_BASE_GUARDED_H
#define CPR_BASE_GUARDED_H

#ifdef CPR_DEBUG

/* Set by process/guard.c once there is a guard; the tools, which use some of these files as well, have none. */
extern void (*guarded_check)(const char *function);

#define assert_guarded() ((void)(guarded_check ? guarded_check(__func__) : (void)0))

#else

#define assert_guarded() ((void)0)

#endif

#endif
