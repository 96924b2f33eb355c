/* SPDX-License-Identifier: MIT */
/* Commands and processors. */
#ifndef CPR_BENCH_MACHINE_H
#define CPR_BENCH_MACHINE_H

#include <stddef.h>
#include <sys/types.h>

/*
 * Runs a command in a directory (NULL: here), and waits for its end. `out` gets its stdout, cut at size - 1 bytes.
 * Returns its exit status, or a negative errno.
 */
int machine_run(char *const *argv, const char *directory, char *out, size_t size);

/*
 * The same in two steps. *out is the command's stdout until machine_finish, which closes it. Returns 0, or a negative
 * errno.
 */
int machine_start(char *const *argv, const char *directory, pid_t *pid, int *out);
int machine_finish(pid_t pid, int from, char *out, size_t size);

/*
 * Puts this thread, and processes that it starts, on one processor from now on; -1: on all that it had at the first
 * call.
 */
void machine_pin(int cpu);

/* Sets the processors for servers and clients, one each; -1 and -1 if there is only one. */
void machine_processors(int *server, int *clients);

#endif
