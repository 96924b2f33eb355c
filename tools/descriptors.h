/* SPDX-License-Identifier: MIT */
/* Every open descriptor of a process, and why the next generation gets it or does not. */
#ifndef CPR_DESCRIPTORS_H
#define CPR_DESCRIPTORS_H

#include "base/text.h"
#include "model/state.h"

#include <sys/types.h>

struct descriptor {
	int fd;
	bool kept, cloexec;
	const struct entry *entry; /* its tag; NULL: none */
	char what[256];            /* as /proc shows it */
	char why[256];
};

struct descriptors {
	struct descriptor *of; /* by number */
	size_t count;
};

/*
 * Fills *all. `state`: the list from the process. Returns false, with the reason in `why`, if /proc does not show them.
 */
bool descriptors_of(pid_t pid, const struct state *state, struct descriptors *all, struct text *why);

#endif
