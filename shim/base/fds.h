/* SPDX-License-Identifier: MIT */
/* Which descriptors are open. */
#ifndef CPR_BASE_FDS_H
#define CPR_BASE_FDS_H

#include <stdbool.h>

/*
 * Calls `each` with every open descriptor (but the one that this reads with), by /proc/self/fd, and where that is
 * not mounted by asking for each number below the soft limit (65,536 at most). A signal handler may call it. `each`
 * may close the descriptor it is given.
 */
void fds_walk(void (*each)(int fd, void *arg), void *arg);

/*
 * The same with the numbers that are names in another directory of /proc: descriptors, threads, processes. False:
 * it cannot be read.
 */
bool fds_walk_in(const char *path, void (*each)(int number, void *arg), void *arg);

/*
 * Marks descriptors close-on-exec. Those in a row by one call; most are, since what a program opens at its start it
 * opens one after the other. The last ones only at fds_row_end.
 */
struct fds_row {
	int first, last; /* first -1: none */
};

#define FDS_NO_ROW ((struct fds_row){-1, -1})

void fds_row_close_at_exec(struct fds_row *row, int fd);
void fds_row_end(struct fds_row *row);

#endif
