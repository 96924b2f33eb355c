/* SPDX-License-Identifier: MIT */
/* Every open descriptor of a process, and why the next generation gets it or not. */
#ifndef CPR_DESCRIPTORS_H
#define CPR_DESCRIPTORS_H

#include "base/text.h"
#include "model/state.h"

#include <sys/types.h>

struct descriptor {
	int fd;
	bool kept, cloexec;
	const struct entry *entry; /* its tag; NULL: none */
	char what[256];            /* what /proc says that it is */
	char why[256];
};

struct descriptors {
	struct descriptor *of; /* by number */
	size_t count;
};

/* `state`: the list that the process gave. False, and `why`: /proc does not tell. */
bool descriptors_of(pid_t pid, const struct state *state, struct descriptors *all, struct text *why);

#endif
