/* SPDX-License-Identifier: MIT */
/* Rounds of the task in a thread of the program, if the kernel refuses us a thread. */
#ifndef CPR_PROCESS_LENT_H
#define CPR_PROCESS_LENT_H

#include <signal.h>
#include <stdbool.h>

/*
 * RLIMIT_NPROC and a cgroup's pids.max count threads. haproxy sets RLIMIT_NPROC to 0 in its workers, and a worker that
 * cannot answer makes every restart fail. In that case a timer rings. The thread that it interrupts makes one round, on
 * the task's stack.
 *
 * process/task.h says why we do not always do this. Forks wait for the round (guard_lend), and its server misses the
 * thread meanwhile. An exec by the task needs a thread of its own. So a restart in exec mode fails there and gives the
 * reason, unless the program has one thread.
 */

/* Makes state that a forked child does not inherit. Called once, when the library starts. Returns 0, or -ENOMEM. */
int lent_init(void);

/* Requests a round in `ms` milliseconds; 0: at once. Any thread and any signal handler may call it. Keeps errno. */
void lent_ring_in(int ms);

/* Is a round requested already? */
bool lent_is_armed(void);

/*
 * Makes a requested round come within 5 ms. Not at once: the program repeats a call that the timer interrupts, and that
 * wakes the task again. It went round ten thousand times a second while a generation arrived.
 */
void lent_hasten(void);

/* The timer has rung. */
void lent_rang(void);

/* Is this signal the timer's? */
bool lent_is_timer(const siginfo_t *info);

#endif
