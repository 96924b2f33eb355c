/* SPDX-License-Identifier: MIT */
/* Is a generation behind its gate healthy? A child of ours asks through its door. */
#ifndef CPR_HEALTH_H
#define CPR_HEALTH_H

#include "base/text.h"

#include <signal.h>
#include <sys/types.h>

struct health {
	const char *path;    /* --ready-http; NULL: none */
	int status;          /* the expected one; 0: any from 200 to 299 */
	const char *command; /* --ready-command, for sh -c; NULL: none */
};

/* Is there anything to check? */
static inline bool health_is_wanted(const struct health *health)
{
	return health->path || health->command;
}

/* Parses "/PATH" or "/PATH=STATUS" into *health, which keeps the word. Returns 0, or -EINVAL. */
int health_parse(char *word, struct health *health);

/*
 * Starts one check, in a child whose exit status is 0 if all is well. `door`: the address as a tag (tcp:127.0.0.1:4000,
 * unix:@name). The child writes to *output, a memfd. `mask`: the signal mask for the command. Returns the child's pid,
 * or -errno.
 */
pid_t health_begin(const struct health *health, const char *door, const sigset_t *mask, int *output);

/* Adds the result of the check, in one line. */
void health_reason(int output, int status, struct text *why);

#endif
