/* SPDX-License-Identifier: MIT */
/*
 * The standard error of a generation that is not ready yet: a process of its own relays it, and its last lines are
 * kept.
 */
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
 * Starts the relay. *writer is its input, close-on-exec. The supervisor does not relay itself: if it were killed, the
 * generation would get SIGPIPE at its next line. The relay goes on until the other end is closed everywhere. Returns 0,
 * or -errno.
 */
int tail_open(struct tail *tail, int *writer);

/*
 * Adds the last lines, each as "stderr=LINE". For a generation that has ended it waits until the relay has read them
 * all.
 */
void tail_put(const struct tail *tail, struct text *answer);

void tail_close(struct tail *tail);

#endif
