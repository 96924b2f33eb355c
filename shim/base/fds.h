/* SPDX-License-Identifier: MIT */
/* Which descriptors are open. */
#ifndef CPR_BASE_FDS_H
#define CPR_BASE_FDS_H

#include <stdbool.h>

/*
 * Calls each(fd, arg) for every open descriptor except the one that reads the directory. It reads /proc/self/fd. Where
 * /proc is not mounted, it tries each number below the soft limit, 65,536 at most. `each` may close its descriptor. A
 * signal handler may call this. Keeps errno.
 */
void fds_walk(void (*each)(int fd, void *arg), void *arg);

/*
 * Calls each(number, arg) for every name in `path` that is a number: another directory of /proc, with descriptors,
 * threads or processes. Returns false if the directory cannot be read. A signal handler may call this. Keeps errno.
 */
bool fds_walk_in(const char *path, void (*each)(int number, void *arg), void *arg);

/*
 * Marks descriptors close-on-exec, and each run of consecutive numbers by one call. Most numbers are consecutive: a
 * program opens them one after the other at its start. fds_row_end marks the last run.
 */
struct fds_row {
	int first, last; /* first -1: none */
};

#define FDS_NO_ROW ((struct fds_row){-1, -1})

void fds_row_close_at_exec(struct fds_row *row, int fd);
void fds_row_end(struct fds_row *row);

#endif
