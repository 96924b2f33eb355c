/* SPDX-License-Identifier: MIT */
/* The sockets that a generation under a seccomp filter has bound, by the names that it asked for. */
#ifndef CPR_BOUND_H
#define CPR_BOUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct bound {
	uint64_t ino; /* the socket's */
	char *name;   /* of its tag */
	bool kept;    /* it is the supervisor's, and replaced the program's own */
	bool listens;
	pid_t pid; /* the process and number at which it was last seen */
	int number;
};

struct bounds {
	struct bound *all;
	size_t count;
};

struct bound *bounds_find(const struct bounds *b, uint64_t ino);

/* Adds one, or renames it. Returns NULL without memory. */
struct bound *bounds_add(struct bounds *b, uint64_t ino, const char *name);
void bounds_free(struct bounds *b);

#endif
