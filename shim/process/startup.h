/* SPDX-License-Identifier: MIT */
/*
 * What the program was given at its start, and therefore what the next generation gets: arguments, environment,
 * directory, limits, signals.
 */
#ifndef CPR_PROCESS_STARTUP_H
#define CPR_PROCESS_STARTUP_H

#include "model/state.h"

struct origin {
	/* absolute, as it was started; symbolic links unresolved: a package upgrade, a moved `current` are followed */
	const char *path;
	char **argv;
	char **envp;       /* without CPR_STATE_FD */
	const char *directory;
	const char *script; /* of an interpreter: the argument that names it; NULL */
	struct heirloom *heirlooms;
	size_t heirloom_count;
};

extern struct origin cpr__startup;

/*
 * Makes sense of the snapshot (process/snapshot.h), which may be long ago. `heirlooms` and what was given are the
 * state's, or, NULL in generation 1, the snapshot's. 0, or -ENOMEM.
 */
int startup_init(const struct state *state);

/* What this program was first started with, for the state of its own exec. It points into cpr__startup. */
struct given startup_given(void);

/*
 * Directory and umask as at start: of the calling task, whose file system attributes must be its own (clone without
 * CLONE_FS).
 */
void startup_restore_directory(void);

/*
 * Ignored signals, timers, limits, processor affinity as at start: what the whole process shares. startup_put_back
 * undoes it when exec has failed. The signal mask stays as it is: the next generation sets it.
 */
void startup_restore_process(void);
void startup_put_back(void);

/*
 * In the constructor. Blocks these signals (bit 0 is signal 1) and no others, but for the doorbell, which has no
 * handler yet. The last generation has blocked everything until its exec: a handler of its would run in the task that
 * execs. `drop`: takes what is pending and would end this process, except SIGTERM, SIGINT and SIGQUIT.
 */
void startup_let_through(uint64_t blocked, bool drop);

/* An heirloom that still is what it was, or one of 0, 1, 2? */
bool startup_is_heirloom(int fd);

#endif
