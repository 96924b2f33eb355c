/* SPDX-License-Identifier: MIT */
/* Is a generation behind its gate healthy? Asked through its door, in a child of our own. */
#ifndef CPR_HEALTH_H
#define CPR_HEALTH_H

#include "base/text.h"

#include <signal.h>
#include <sys/types.h>

struct health {
	const char *path;    /* --ready-http; NULL: none */
	int status;          /* that it must answer; 0: any from 200 to 299 */
	const char *command; /* --ready-command, for sh -c; NULL: none */
};

/* Is there anything to check? */
static inline bool health_is_wanted(const struct health *health)
{
	return health->path || health->command;
}

/* "/PATH" or "/PATH=STATUS" into *health, which keeps the word. 0, or -EINVAL. */
int health_parse(char *word, struct health *health);

/*
 * Begins one look, in a child that ends with 0 if all is well. `door`: the address as a tag (tcp:127.0.0.1:4000,
 * unix:@name). What the child says goes to *output, a memfd. `mask`: the signal mask for the command. The child's pid,
 * or -errno.
 */
pid_t health_begin(const struct health *health, const char *door, const sigset_t *mask, int *output);

/* What the look said, in one line. */
void health_reason(int output, int status, struct text *why);

#endif
