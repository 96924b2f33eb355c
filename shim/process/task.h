/* SPDX-License-Identifier: MIT */
/* The task: a thread of our own that exists only while there is something to do. */
#ifndef CPR_PROCESS_TASK_H
#define CPR_PROCESS_TASK_H

#include <stdbool.h>

/*
 * Why a thread of our own: a signal handler runs in a thread of the program. That thread may hold malloc's lock, be
 * inside fork(), or run on an alternate stack of 8 KiB; and its server misses it meanwhile. A handler can wait for
 * nothing. The task may wait for the guard, since it interrupts no thread of the program. Why it does not stay: it
 * would break unshare() and setns(), keep capabilities that the program drops, and be visible.
 *
 * libc does not know it. It runs with every signal blocked, on a stack and a TLS block of its own, and makes raw system
 * calls only.
 */

/*
 * Registers an errand. Called once for each, when the library starts. The task calls `look` in each of its rounds. It
 * returns the milliseconds until it has to be called again at the latest; 0: it has nothing to do. It may wait for the
 * guard, and for nothing else that takes long.
 */
void task_adds(int (*look)(void));

/*
 * Makes state that a forked child does not inherit. Called once, when the library starts, before task_wake. Returns 0,
 * or -ENOMEM.
 */
int task_init(void);

/*
 * All errands are registered: from now on task_wake has an effect. at_once: makes a first round, since the generation
 * has something to do.
 */
void task_begin(bool at_once);

/*
 * Makes the task run a round now: starts it, or wakes it. One atomic operation and one system call (clone or futex).
 * Any thread and any signal handler may call it. Keeps errno. Does nothing in a sandbox (process/sandbox.h): the task
 * would be under its filter, too. If the task cannot be started (EAGAIN), a timer rings (process/lent.h).
 */
void task_wake(void);

/* The same for a handler of ours, which has every signal blocked. */
void task_wake_in_handler(void);

/*
 * For that timer's handler: runs one round in the interrupted thread, with every signal blocked. Does not keep errno.
 */
void task_round_in_handler(void);

/*
 * Call these around a call that needs a process with one thread (unshare, setns), or that changes credentials, which
 * are per thread. task_pause returns when the task is gone. task_resume starts it again, with the caller's credentials,
 * if it had something to do. They nest, and count for all threads. A signal handler may not call them. Both keep errno.
 */
void task_pause(void);
void task_resume(void);

#endif
