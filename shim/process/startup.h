/* SPDX-License-Identifier: MIT */
/*
 * What the program was given at its start, and the next generation gets again: arguments, environment, directory,
 * limits, signals.
 */
#ifndef CPR_PROCESS_STARTUP_H
#define CPR_PROCESS_STARTUP_H

#include "model/state.h"

struct origin {
	/*
	 * absolute, as it was started. Symbolic links are not resolved: a restart follows a package upgrade or a moved
	 * `current`
	 */
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
 * Interprets the snapshot (process/snapshot.h), which may be from long ago. Heirlooms and arguments come from `state`,
 * or in generation 1 (NULL) from the snapshot. Returns 0, or -ENOMEM.
 */
int startup_init(const struct state *state);

/* Returns what this program was first started with, for the state of its own exec. It points into cpr__startup. */
struct given startup_given(void);

/*
 * Restores directory and umask as at the start, for the calling task. That must have file system attributes of its own
 * (clone without CLONE_FS).
 */
void startup_restore_directory(void);

/*
 * Restores what the whole process shares, as at the start: ignored signals, timers, limits, processor affinity.
 * startup_put_back undoes it after a failed exec. The next generation sets the signal mask.
 */
void startup_restore_process(void);
void startup_put_back(void);

/*
 * For the constructor: blocks these signals (bit 0 is signal 1) and no others, except the doorbell, which has no
 * handler yet. The last generation blocked everything until its exec: else a handler could run in the task that execs.
 * `drop`: removes pending signals that would end this process, except SIGTERM, SIGINT and SIGQUIT.
 */
void startup_let_through(uint64_t blocked, bool drop);

/* Is fd an heirloom that is still the same, or one of 0, 1, 2? */
bool startup_is_heirloom(int fd);

#endif
