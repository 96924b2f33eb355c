/* SPDX-License-Identifier: MIT */
/* Leaving: collects the parts, writes the state and execs; or undoes it. */
#ifndef CPR_RESTART_LEAVE_H
#define CPR_RESTART_LEAVE_H

#include "base/text.h"
#include "model/state.h"

struct leave_request {
	uint64_t nonce;     /* the caller that waits for the next generation's answer; 0: none */
	int64_t asked_at;   /* CLOCK_MONOTONIC, ns */
	const char *path;   /* exec this; NULL: what was started */
	void (*leaving)(void *arg); /* called when nothing but exec is left to do; may be NULL */
	void *arg;
};

/* Gets ready what leaving needs, so that it need not ask for memory later. 0, or -ENOMEM. */
int leave_init(void);

/*
 * Restarts this process; returns only if that failed, with everything as it was. -EBUSY: another thread is restarting
 * it. -EPERM: it cannot work, and `why` says so. Else the error of exec, memfd_create or clone, also in `why`. A signal
 * handler may call it.
 */
int leave_restart(const struct leave_request *request, struct text *why);

/*
 * The program execs itself: the same, with its own arguments, signal mask and everything else of its choice. -errno of
 * exec. May be called wherever execve may.
 */
int leave_by_itself(const char *path, char *const argv[], char *const envp[]);

/*
 * Is this exec the program's own next generation? The same file as this one (for an interpreter also the same script),
 * in the owner; or, under a supervisor, what a script execs that has asked for nothing of what it was handed.
 */
bool leave_is_own(const char *path, char *const argv[]);

/* True while a restart is being tried. */
bool leave_under_way(void);

#endif
