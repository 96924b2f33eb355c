/* SPDX-License-Identifier: MIT */
/* The exec itself, by a task with a descriptor table of its own: after a failure there is nothing to undo. */
#ifndef CPR_RESTART_EXEC_H
#define CPR_RESTART_EXEC_H

#include "model/state.h"

struct exec_plan {
	const char *path;
	char *const *argv;
	char **envp;
	const struct state *state; /* its connections and page go along; state->passage decides what else is restored */
	int state_fd;
	int parent_death_signal;   /* for the program's own exec: a new task has none */
	int64_t check_at, write_at; /* when these steps began, for the log */
	int64_t flags_at;
	int error;
};

/* Makes the task's stack. Called once, at the start. Returns 0, or -ENOMEM. */
int exec_init(void);

/* Execs. Returns only if execve or clone failed: -errno, with everything unchanged. Holding the guard. */
int exec_next(struct exec_plan *plan);

#endif
