/* SPDX-License-Identifier: MIT */
/* A pipe whose text is passed on to our stderr, and whose end is remembered. */
#ifndef CPR_TAIL_H
#define CPR_TAIL_H

#include "base/text.h"

enum { TAIL_SIZE = 2048, TAIL_LINES = 5 };

struct tail {
	int fd; /* the end to read; -1: closed, or none */
	char bytes[TAIL_SIZE];
	size_t used;
};

/* Opens it; the end to write into *writer, close-on-exec as both. 0, or -errno. */
int tail_open(struct tail *tail, int *writer);

/* There is something to read: passes it on. At its end the pipe is closed. */
void tail_read(struct tail *tail);

/* The last lines, each as "stderr=LINE". */
void tail_put(const struct tail *tail, struct text *answer);

void tail_close(struct tail *tail);

#endif
