/* SPDX-License-Identifier: MIT */
/*
 * A light start. Most programs that a server starts (a CGI script, a shell, /bin/true) never do anything that concerns
 * the library. They get a snapshot of how they were started. Page, handler and table follow when they do something that
 * matters. Until then cpr__table is NULL, and the wrappers go straight to libc. All of it at once cost 200 system calls
 * and 0.4 ms for each program.
 */
#ifndef CPR_PROCESS_LIGHT_H
#define CPR_PROCESS_LIGHT_H

#include "base/attr.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

/* True from the constructor until the rest is made. */
extern _Atomic bool light_start;

/* For the constructor: postpones the rest. */
void light_until(void (*rest)(void));

/*
 * Makes the rest, once; other threads wait for it. Does nothing in a vfork child, whose memory is its parent's. Blocks
 * signals. A signal handler may call it. Keeps errno.
 */
void light_end(void);

/*
 * Call it before anything that matters: a bind, listen, fork, received or saved descriptor, or a change of what the
 * process was started with.
 */
static inline void begin_if_light(void)
{
	if (unlikely(atomic_load_explicit(&light_start, memory_order_relaxed)))
		light_end();
}

/*
 * Is the opened fd a FIFO or a device that can be kept? Regular files are kept only by a rule, and with rules no start
 * is light. False if the start is not light.
 */
bool light_matters(int fd);

/*
 * The program sets a handler for this signal. The doorbell's ends the light start; any other is noted in the snapshot.
 * light_spare: removes our signals from a set that the program blocks.
 */
void light_asked(int sig);
void light_spare(sigset_t *set);

#endif
