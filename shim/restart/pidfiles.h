/* SPDX-License-Identifier: MIT */
/*
 * Pid files that the program itself writes. In exec mode the next generation has the same pid, finds it in the file,
 * and would report that it runs already.
 */
#ifndef CPR_RESTART_PIDFILES_H
#define CPR_RESTART_PIDFILES_H

#include "base/attr.h"
#include "fd/gate.h"

#include <fcntl.h>
#include <stdbool.h>

/*
 * The program has opened this file, or renamed another to it: notes it if its name is that of a pid file. Keeps errno.
 */
void pidfiles_note(int dir, const char *path);

static inline void pidfiles_opened(int dir, const char *path, int flags)
{
	if (unlikely(flags & O_CREAT))
		pidfiles_note(dir, path);
}

/*
 * Behind the gate: is the program about to read a pid file that names the generation before? A server that finds itself
 * running ends at once (apache, gunicorn, unicorn). So *fd becomes another file, which names no process, as after a
 * crash. If none can be made, *fd is -1, and errno tells that there is no such file. The obvious way is that error in
 * all cases; but a program that first checks for the file (hypnotoad, starman, thin) fails when it cannot read it.
 */
bool pidfiles_stand_in(int dir, const char *path, int flags, int *fd);

static inline bool pidfiles_replaced(int dir, const char *path, int flags, int *fd)
{
	return unlikely(gate_claims()) && pidfiles_stand_in(dir, path, flags, fd);
}

/*
 * Before exec: removes those that hold this process's pid and nothing else, and that no descriptor keeps. The other
 * restores them. Holding the guard.
 */
void pidfiles_take_away(void);
void pidfiles_put_back(void);

/*
 * Handover mode. The next generation writes its pid files over this one's, and removes them when it is called off. So
 * this one notes those that name it. It restores those that are missing or name a process that is gone; with
 * `from_the_living` also those that name another generation.
 */
void pidfiles_remember(void);
void pidfiles_restore(bool from_the_living);

#endif
