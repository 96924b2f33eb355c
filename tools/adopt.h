/* SPDX-License-Identifier: MIT */
/* --adopt: a server whose supervisor was killed. The server tells how it was started, and gives what it holds. */
#ifndef CPR_ADOPT_H
#define CPR_ADOPT_H

#include "holdings.h"

struct adopt {
	pid_t pid;
	int pidfd; /* it is not our child */
	int generation;
	struct beginning start;
	struct holdings holdings;
};

/*
 * Checks whether the server may be adopted, and takes what it holds, without effect on it. Returns false with the
 * reason in `why`.
 */
bool adopt_take(struct adopt *a, pid_t pid, struct text *why);

/*
 * Makes this process like the earlier supervisor: user, directory, environment, limits. Returns false with the reason
 * in `why`.
 */
bool adopt_follow(const struct adopt *a, struct text *why);

/* Tells the server that this process is its supervisor. Returns false with the reason in `why`. */
bool adopt_tell(const struct adopt *a, struct text *why);

#endif
