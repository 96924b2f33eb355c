/* SPDX-License-Identifier: MIT */
/* How a tool waits for another process's answer. A supervisor has to handle signals and callers meanwhile. */
#ifndef CPR_PATIENCE_H
#define CPR_PATIENCE_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

/* Like poll(2). -1 with ECANCELED: stop waiting. */
int patience_poll(struct pollfd *on, size_t count, int ms);

/* Is there input or an end of file within ms milliseconds? */
bool patience_await(int fd, int ms);

/* Sets the function that this process uses instead of poll(2). */
void patience_is(int (*poll)(struct pollfd *on, size_t count, int ms));

#endif
