/* SPDX-License-Identifier: MIT */
/* Leaving: collects the parts, writes the state and execs; or undoes it. */
#ifndef CPR_RESTART_LEAVE_H
#define CPR_RESTART_LEAVE_H

#include "base/text.h"
#include "model/state.h"

struct leave_request {
	uint64_t nonce;     /* of the caller that waits for the next generation's answer; 0: none */
	int64_t asked_at;   /* CLOCK_MONOTONIC, ns */
	const char *path;   /* the file to exec; NULL: the one that was started */
	void (*leaving)(void *arg); /* called when only the exec is left to do; may be NULL */
	void *arg;
};

/* Allocates what leaving needs, so that it needs no memory later. Returns 0, or -ENOMEM. */
int leave_init(void);

/*
 * Restarts this process. Returns only if that failed, with everything unchanged. -EBUSY: another thread is restarting
 * it. -EPERM: it cannot work. Else the error of exec, memfd_create or clone. `why` gets the reason, except for -EBUSY.
 * A signal handler may call it.
 */
int leave_restart(const struct leave_request *request, struct text *why);

/*
 * For the program's own exec: the same, with the program's choice of arguments, signal mask and all else. Returns
 * -errno of the exec. May be called wherever execve may.
 */
int leave_by_itself(const char *path, char *const argv[], char *const envp[]);

/*
 * Is this exec the program's own next generation? In the owner: the same file as this one (for an interpreter also the
 * same script). Under a supervisor also the exec of a script that has claimed nothing.
 */
bool leave_is_own(const char *path, char *const argv[]);

/* True while a restart is tried. */
bool leave_under_way(void);

#endif
