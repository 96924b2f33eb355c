/* SPDX-License-Identifier: MIT */
/*
 * A light start: most programs that a server starts (a CGI script, a shell, /bin/true) never do anything that the
 * library is there for. They get a snapshot of how they were started, and all else (page, handler, table) only when
 * they do something that matters: cpr__table is NULL until then, and the wrappers go straight to libc. All of it at
 * once cost 200 system calls and 0.4 ms for each program.
 */
#ifndef CPR_PROCESS_LIGHT_H
#define CPR_PROCESS_LIGHT_H

#include "base/attr.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

/* From the constructor until the rest has been made. */
extern _Atomic bool light_start;

/* The constructor leaves the rest for later. */
void light_until(void (*rest)(void));

/*
 * Makes the rest, once; other threads wait for it. Not in a vfork child, whose memory is its parent's. With signals
 * blocked, for any handler; keeps errno.
 */
void light_end(void);

/*
 * Before what matters is done: what is bound, listened on, forked, received, saved, or changes what the process has
 * been started with.
 */
static inline void begin_if_light(void)
{
	if (unlikely(atomic_load_explicit(&light_start, memory_order_relaxed)))
		light_end();
}

/*
 * A file was opened: is it a FIFO or a device that can be kept? Regular files are kept only by a rule, and then no
 * start is light. Not of a light start: false.
 */
bool light_matters(int fd);

/*
 * The program asks for a handler of this signal: of the doorbell's, it gets what it gets of a process that is not
 * light. And it blocks none of ours meanwhile.
 */
void light_asked(int sig);
void light_spare(sigset_t *set);

#endif
