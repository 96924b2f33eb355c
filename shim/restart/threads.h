/* SPDX-License-Identifier: MIT */
/* The threads of this process. */
#ifndef CPR_RESTART_THREADS_H
#define CPR_RESTART_THREADS_H

/*
 * Interrupts threads that may sleep in accept(), recv(), poll() or select() on numbers that now have other sockets:
 * these calls hold the earlier ones. Each thread repeats its call. Keeps errno.
 */
void threads_look_again(void);

/* Interrupts one of them. */
void threads_ring(int tid);

#endif
