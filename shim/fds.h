/* SPDX-License-Identifier: MIT */
/* Which descriptors are open. */
#ifndef CPR_FDS_H
#define CPR_FDS_H

#include <stdbool.h>

/*
 * Calls `each` with every open descriptor (but the one that this reads with), by /proc/self/fd, and where that is not mounted by asking for
 * each number below the soft limit (65,536 at most). A signal handler may call it. `each` may close the descriptor it is given.
 */
void fds_walk(void (*each)(int fd, void *arg), void *arg);

/* The same with the numbers that are names in another directory of /proc: descriptors, threads, processes. False: it cannot be read. */
bool fds_walk_in(const char *path, void (*each)(int number, void *arg), void *arg);

#endif
