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
 * Why not always so: see process/task.h. What is lost is what a thread of our own was made for: forks wait for the
 * round (guard_lend), and the thread is missing from its server meanwhile. An exec by the task takes a thread of its
 * own, and so a restart in exec mode fails there, with the reason, unless the program has one thread.
 */

/* Makes the state that a forked child does not inherit. 0, or -ENOMEM. Once, when the library starts. */
int lent_init(void);

/* A round is to be made in `ms` milliseconds (0: at once). Any thread and any handler; keeps errno. */
void lent_ring_in(int ms);

/* Is a round to be made already, in any number of milliseconds? */
bool lent_is_armed(void);

/*
 * Then it is made within 5 ms. Not at once: a call of the program's that the timer ends is made again, and so it wakes
 * the task again. It went round ten thousand times a second while a generation arrived.
 */
void lent_hasten(void);

/* The timer has rung. */
void lent_rang(void);

/* Is this signal the timer's? */
bool lent_is_timer(const siginfo_t *info);

#endif
