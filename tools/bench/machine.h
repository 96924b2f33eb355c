/* SPDX-License-Identifier: MIT */
/* Commands and processors. */
#ifndef CPR_BENCH_MACHINE_H
#define CPR_BENCH_MACHINE_H

#include <stddef.h>
#include <sys/types.h>

/*
 * Runs a command in a directory (NULL: here) and waits for its end; what it wrote to stdout goes to `out`, cut at size
 * - 1 bytes. Its exit status, or a negative errno.
 */
int machine_run(char *const *argv, const char *directory, char *out, size_t size);

/*
 * The same in two steps. The command's stdout is at *out until machine_finish, which closes it. 0, or a negative errno.
 */
int machine_start(char *const *argv, const char *directory, pid_t *pid, int *out);
int machine_finish(pid_t pid, int from, char *out, size_t size);

/*
 * This thread, and the processes that it starts, on one processor from now on; -1: on all that there were at the first
 * call.
 */
void machine_pin(int cpu);

/* The processors that the servers and their clients have, one each; -1 and -1 if there is only one. */
void machine_processors(int *server, int *clients);

#endif
