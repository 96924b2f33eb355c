/* SPDX-License-Identifier: MIT */
/* How a tool waits for another process's answer. A supervisor has signals and callers of its own to hear meanwhile. */
#ifndef CPR_PATIENCE_H
#define CPR_PATIENCE_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

/* As poll(2). -1 and ECANCELED: it is not to be waited for any more. */
int patience_poll(struct pollfd *on, size_t count, int ms);

/* Is there something to read, or an end, within so many ms? */
bool patience_await(int fd, int ms);

/* What is used for poll(2) in this process. */
void patience_is(int (*poll)(struct pollfd *on, size_t count, int ms));

#endif
