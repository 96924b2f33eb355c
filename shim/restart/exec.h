/* SPDX-License-Identifier: MIT */
/* Leaving: the table into a sealed memfd, and exec; or the way back. */
#ifndef CPR_RESTART_EXEC_H
#define CPR_RESTART_EXEC_H

#include "model/state.h"
#include "base/text.h"

struct leave_request {
	uint64_t nonce;     /* who waits for the next generation's word; 0: nobody */
	int64_t asked_at;   /* CLOCK_MONOTONIC, ns */
	const char *path;   /* exec this; NULL: what was started */
	void (*leaving)(void *arg); /* called when nothing but exec is left to do; may be NULL */
	void *arg;
};

/* Makes ready what leaving needs, so that a handler need not ask for memory. 0, or -ENOMEM. */
int leave_init(void);

/*
 * Restarts this process; returns only if that failed, with everything as it was: -EBUSY, a restart is under way in another thread; -EPERM,
 * it cannot work, `why` says so; else what exec, memfd_create or clone said, also in `why`. A signal handler may call it.
 */
int leave_restart(const struct leave_request *request, struct text *why);

/*
 * The program execs itself: the same, with its own arguments, signal mask and everything else of its choice. -errno of exec. May be called
 * wherever execve may.
 */
int leave_by_itself(const char *path, char *const argv[], char *const envp[]);

/* Is this exec the program's own next generation? The same file as this one (and, of an interpreter, the same script), in the owner. */
bool leave_is_own(const char *path, char *const argv[]);

/* The kept listeners' queues: as long as the system allows, or as long as the program said. From the beginning of a drain on nobody accepts. */
void leave_raise_backlogs(bool raise);

/* True while a restart is being tried. */
bool leave_under_way(void);

#endif
