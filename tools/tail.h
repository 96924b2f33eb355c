/* SPDX-License-Identifier: MIT */
/* The standard error of a generation that proves itself: passed on by a process of its own, and its end remembered. */
#ifndef CPR_TAIL_H
#define CPR_TAIL_H

#include "base/text.h"

#include <sys/types.h>

struct tail_page;

struct tail {
	struct tail_page *page; /* shared with the relay; NULL: none */
	pid_t relay;
};

/*
 * Starts the relay; what it is to read goes into *writer, close-on-exec. It is no work of the supervisor's own: if that
 * is killed, the generation would get SIGPIPE at its next word. The relay goes on until the other end is closed
 * everywhere. 0, or -errno.
 */
int tail_open(struct tail *tail, int *writer);

/* The last lines, each as "stderr=LINE"; of a generation that has ended, once the relay has read them all. */
void tail_put(const struct tail *tail, struct text *answer);

void tail_close(struct tail *tail);

#endif
