/* SPDX-License-Identifier: MIT */
/* The task's rounds in a thread of the program, where the kernel refuses us a thread of our own. */
#ifndef CPR_PROCESS_LENT_H
#define CPR_PROCESS_LENT_H

#include <signal.h>
#include <stdbool.h>

/*
 * RLIMIT_NPROC and a cgroup's pids.max count threads. haproxy sets the former to 0 in its workers, and a worker that
 * cannot answer makes every restart fail. So there a timer rings, and the thread which that interrupts makes one round,
 * on the stack of the task.
 *
 * Why not always so: see process/task.h. What is lost is what a thread of our own was made for. A round may have to
 * wait for the guard, whose holder may be in fork() and wait for malloc's lock, which the interrupted thread may hold;
 * where no thread can be started, fork() fails as well. And the thread is missing from its server during the round.
 */

/* Makes the state that a forked child does not inherit. 0, or -ENOMEM. Once, when the library starts. */
int lent_init(void);

/* A round is to be made in `ms` milliseconds (0: at once). Any thread and any handler; keeps errno. */
void lent_ring_in(int ms);

/*
 * Is a round to be made already, in any number of milliseconds? A call of the program's that the timer ends is made
 * again, and so it wakes the task again: without this it went round ten thousand times a second while a generation
 * arrived.
 */
bool lent_is_armed(void);

/* The timer has rung. */
void lent_rang(void);

/* Is this signal the timer's? */
bool lent_is_timer(const siginfo_t *info);

/*
 * May the thread that a handler of ours has interrupted do what takes the guard? Not amid its own fork, nor inside the
 * library, where a restart would wait for it.
 */
bool lent_may_run(void);

#endif
