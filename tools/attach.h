/* SPDX-License-Identifier: MIT */
/* --attach: a server that was started without cpr. How it was started is read from /proc, its listeners are taken. */
#ifndef CPR_ATTACH_H
#define CPR_ATTACH_H

#include "holdings.h"

#include <linux/limits.h>
#include <sys/types.h>

struct attach {
	pid_t pid;   /* 0: none */
	int pidfd;   /* from attach_take on */
	char **argv; /* of its command */
	char exe[PATH_MAX], directory[PATH_MAX];
	char **environment; /* NULL: it has overwritten it, and ours is taken */
	uid_t uid;
	gid_t gid;
};

/*
 * Reads how it was started; nothing is touched. `command`: given instead of what it says of itself; NULL: none.
 * 0; -errno, and `why` says what stands in the way.
 */
int attach_read(struct attach *a, pid_t pid, char **command, struct text *why);

/* This process goes on in its directory, with its environment (and our own CPR_ variables) and limits. 0, -errno. */
int attach_follow(const struct attach *a, struct text *why);

/* The listeners of it and of its descendants, as kept. How many, or -errno and `why`. */
int attach_take(struct attach *a, struct holdings *h, struct text *why);

/* Becomes its user, if this process is another's. 0, -errno. */
int attach_become(const struct attach *a);

/* It is told to leave. */
void attach_dismiss(const struct attach *a, int signo);

/* Shows what is read and what would be taken. */
void attach_show(const struct attach *a, const char *path, const struct holdings *h);

#endif
