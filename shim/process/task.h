/* SPDX-License-Identifier: MIT */
/* The task: a thread of our own that exists only while there is something to do. */
#ifndef CPR_PROCESS_TASK_H
#define CPR_PROCESS_TASK_H

#include <stdbool.h>

/*
 * Why a thread of our own: what runs in a signal handler runs in a thread of the program, which may hold malloc's lock,
 * be inside fork(), stand on an alternate stack of 8 KiB, and is missing from its server meanwhile. It can wait for
 * nothing. The task may wait for the guard, since no thread of the program lies beneath it. Why none that stays: it
 * would break unshare() and setns(), keep capabilities that the program drops, and be seen.
 *
 * libc does not know of it. It runs with every signal blocked, on a stack and a TLS block of its own, and makes raw
 * system calls only.
 */

/*
 * Registers an errand, once, when the library starts. `look` is called by the task at each of its rounds. It returns in
 * how many milliseconds it wants to be called again at the latest; 0: it has nothing to do. It may wait for the guard,
 * and must not wait for anything else for long.
 */
void task_adds(int (*look)(void));

/*
 * Makes the state that a forked child does not inherit. 0, or -ENOMEM. Once, when the library starts; before task_wake.
 */
int task_init(void);

/*
 * All errands are registered: from here on task_wake has an effect. Makes a first round, if the generation has
 * something to do.
 */
void task_begin(bool at_once);

/*
 * Has the task make a round now: starts it, or wakes it. One atomic operation and one system call (clone or futex). Any
 * thread and any signal handler may call it; keeps errno. Nothing happens in a sandbox (process/sandbox.h), whose
 * filter the task would have too. Where the task cannot be started (EAGAIN), a timer rings (process/lent.h).
 */
void task_wake(void);

/* The same for a handler of ours, which has every signal blocked. */
void task_wake_in_handler(void);

/*
 * What that timer asks for: one round, in the thread that it has interrupted. For a handler of ours, which has every
 * signal blocked; uses errno.
 */
void task_round_in_handler(void);

/*
 * Around a call that needs this process to have one thread only (unshare, setns), or that changes credentials, which
 * belong to each thread: task_pause returns when the task is gone, and task_resume starts it again, with the caller's
 * credentials, if it had something to do. They nest, and count for all threads. Not for a signal handler. Both keep
 * errno.
 */
void task_pause(void);
void task_resume(void);

#endif
