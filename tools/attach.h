/* SPDX-License-Identifier: MIT */
/* --attach: a server that was started without cpr. /proc shows how it was started; its listeners are taken. */
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
	char **environment; /* NULL: it has overwritten its own, and ours is used */
	uid_t uid;
	gid_t gid;
};

/*
 * Reads how it was started, and changes nothing. `command` replaces what /proc shows; NULL: none. Returns 0; -errno,
 * and `why` gets the reason.
 */
int attach_read(struct attach *a, pid_t pid, char **command, struct text *why);

/*
 * Gives this process the server's directory, environment (with our own CPR_ variables) and limits. Returns 0, or
 * -errno.
 */
int attach_follow(const struct attach *a, struct text *why);

/*
 * Takes the listeners of the server and its descendants into *h, as kept. Returns how many; or -errno, and `why` gets
 * the reason.
 */
int attach_take(struct attach *a, struct holdings *h, struct text *why);

/* Becomes the server's user, if it has another. Returns 0, or -errno. */
int attach_become(const struct attach *a);

/* Signals the server to leave. */
void attach_dismiss(const struct attach *a, int signo);

/* Shows what was read and what would be taken. */
void attach_show(const struct attach *a, const char *path, const struct holdings *h);

#endif
