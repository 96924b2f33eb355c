/* SPDX-License-Identifier: MIT */
/* Births: what a forked process is told of itself, when it first asks for something, and what runs around each fork. */
#ifndef CPR_PROCESS_BIRTH_H
#define CPR_PROCESS_BIRTH_H

#include "base/attr.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * Once, in the constructor: registering with libc may call malloc. `first` runs before each fork, and before the hooks
 * of birth_around_fork, which it may make. 0, or -ENOMEM.
 */
int birth_watch_forks(void (*first)(void));

/* Once, before all else of this room that light_end makes. 0, or -errno. */
int birth_init(void);

/*
 * Does this process run on its own memory? False in a vfork child. The first call in a forked child, by whichever of
 * its threads, runs the hooks of birth_when_born(). For any handler.
 */
bool birth_own_memory(void);

/*
 * The same, without the hooks: for a handler that has little stack, and for a thread that libc does not know, which
 * must ask birth_own_memory() after that.
 */
bool birth_is_own(void);

/*
 * The tid of this thread as libc has it in memory, without a system call; 0: it does not say. In a child of a bare
 * clone(2) it is the parent's.
 */
int birth_libc_tid(void);

/* Has this process one thread only? Then nothing changes but by the caller. "No" where libc cannot tell. */
bool birth_is_single_threaded(void);

/*
 * The pid of the process that was born last on the way to this one, and has asked for something: its own once it has,
 * and its parent's or a further ancestor's until then.
 */
extern int birth_known_as;

/*
 * What this process is: cleared in every child, until that asks for something. pid is 0 then, and a vfork child reads
 * its parent's. NULL before birth_init.
 */
struct birth_self {
	_Atomic int pid;        /* set when the hooks have run */
	_Atomic int born_as;    /* set before: it is known not to be a vfork child */
	int parent;            /* at its birth */
	_Atomic(void *) asking; /* the thread that runs the hooks: where its errno is */
};
extern struct birth_self *birth_self;

/*
 * `size` bytes, zeroed, that the kernel clears in every child with its own copy of our memory; NULL: there is no room.
 * At the start.
 */
void *birth_cleared(size_t size);

/*
 * What runs in the parent around each fork() from now on: `before` in the reverse order of registration, `after` (may
 * be NULL) in its order, as pthread_atfork() has it.
 */
void birth_around_fork(void (*before)(void), void (*after)(void));

/*
 * Registers a hook that runs in a forked child on its first call into the library, and drops state inherited from the
 * parent. It may run in a signal handler, with every signal blocked. In the order of registration. At the start.
 */
void birth_when_born(void (*forget)(void));

#endif
