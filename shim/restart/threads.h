/* SPDX-License-Identifier: MIT */
/* The threads of this process. */
#ifndef CPR_RESTART_THREADS_H
#define CPR_RESTART_THREADS_H

/*
 * Other sockets stand at numbers on which threads may sleep, in accept(), recv(), poll() or select(), which hold what
 * stood there. Each comes out of its call, and makes it again. Keeps errno.
 */
void threads_look_again(void);

/* One of them. */
void threads_ring(int tid);

#endif
