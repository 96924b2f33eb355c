/* SPDX-License-Identifier: MIT */
/* --adopt: a server whose supervisor was killed. It tells itself how it was started, and gives what it holds. */
#ifndef CPR_ADOPT_H
#define CPR_ADOPT_H

#include "holdings.h"

struct adopt {
	pid_t pid;
	int pidfd; /* it is no child of ours */
	int generation;
	struct beginning start;
	struct holdings holdings;
};

/* Looks whether it may be adopted, and takes what it holds; it does not notice. False, and `why`. */
bool adopt_take(struct adopt *a, pid_t pid, struct text *why);

/* This process goes on as the supervisor of then: its user, directory, environment, limits. False, and `why`. */
bool adopt_follow(const struct adopt *a, struct text *why);

/* The server hears of its new supervisor, which is this process. False, and `why`. */
bool adopt_tell(const struct adopt *a, struct text *why);

#endif
