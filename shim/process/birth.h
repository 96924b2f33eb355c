/* SPDX-License-Identifier: MIT */
/*
 * Births: what a forked process works out about itself on its first call into the library, and hooks around each fork.
 */
#ifndef CPR_PROCESS_BIRTH_H
#define CPR_PROCESS_BIRTH_H

#include "base/attr.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * Registers the hooks with libc, which may call malloc. Called once, in the constructor. `first` runs before each fork,
 * and before the hooks of birth_around_fork; it may register some. Returns 0, or -ENOMEM.
 */
int birth_watch_forks(void (*first)(void));

/* Called once, before all else in this room that light_end makes. Returns 0, or -errno. */
int birth_init(void);

/*
 * Does this process run on its own memory? False in a vfork child. In a forked child the first call, by any of its
 * threads, runs the hooks of birth_when_born(). A signal handler may call it.
 */
bool birth_own_memory(void);

/*
 * The same without the hooks. For a handler with little stack, and for a thread that libc does not know. Such a thread
 * must call birth_own_memory() afterwards.
 */
bool birth_is_own(void);

/*
 * Returns the tid of this thread, from libc's memory and without a system call; 0: not known. In a child of a bare
 * clone(2) it is the parent's.
 */
int birth_libc_tid(void);

/* Has this process one thread only? Then only the caller changes anything. False if libc cannot tell. */
bool birth_is_single_threaded(void);

/*
 * The pid of the nearest process on the line to this one that has called into the library. It is this process's own pid
 * once it has; before that, it is an ancestor's.
 */
extern int birth_known_as;

/*
 * This process. The kernel clears it in every child, where pid is 0 until the child's first call into the library. A
 * vfork child reads its parent's. NULL before birth_init.
 */
struct birth_self {
	_Atomic int pid;        /* set when the hooks have run */
	_Atomic int born_as;    /* set earlier: it is known not to be a vfork child */
	int parent;            /* at its birth */
	_Atomic(void *) asking; /* the thread that runs the hooks: the address of its errno */
};
extern struct birth_self *birth_self;

/*
 * Returns `size` zeroed bytes, which the kernel clears in every child that has its own copy of our memory; NULL: there
 * is no room. At the start only.
 */
void *birth_cleared(size_t size);

/*
 * Registers hooks that run in the parent around each fork() from now on. As with pthread_atfork(), `before` hooks run
 * in reverse order, and `after` hooks (may be NULL) in order of registration.
 */
void birth_around_fork(void (*before)(void), void (*after)(void));

/*
 * Registers a hook that runs in a forked child on its first call into the library, and drops state inherited from the
 * parent. The hooks run in order of registration, perhaps in a signal handler, with every signal blocked. At the start
 * only.
 */
void birth_when_born(void (*forget)(void));

#endif
