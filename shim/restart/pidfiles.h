/* SPDX-License-Identifier: MIT */
/*
 * Pid files of the program's own: the next generation has the same pid, finds it there, and would say that it runs
 * already.
 */
#ifndef CPR_RESTART_PIDFILES_H
#define CPR_RESTART_PIDFILES_H

#include "base/attr.h"
#include "fd/gate.h"

#include <fcntl.h>
#include <stdbool.h>

/*
 * The program has opened this file, or renamed another to it: remembered if it may be a pid file, by its name. Keeps
 * errno.
 */
void pidfiles_note(int dir, const char *path);

static inline void pidfiles_opened(int dir, const char *path, int flags)
{
	if (unlikely(flags & O_CREAT))
		pidfiles_note(dir, path);
}

/*
 * Behind the gate: is what the program is about to read a pid file that names the generation before? A server that
 * finds itself running already ends at once (apache, gunicorn, unicorn do). So *fd is another file, as the last one
 * would have left it by dying: it names no process. Where none can be made, *fd is -1, and errno says that there is no
 * such file. The obvious way is to say that always: but a program that looks first whether it is there (hypnotoad,
 * starman, thin) fails at what it cannot read then.
 */
bool pidfiles_stand_in(int dir, const char *path, int flags, int *fd);

static inline bool pidfiles_replaced(int dir, const char *path, int flags, int *fd)
{
	return unlikely(gate_claims()) && pidfiles_stand_in(dir, path, flags, fd);
}

/*
 * Before exec: removes those that hold this process's pid and nothing else, and that no descriptor keeps. And: puts
 * them back. Holding the guard.
 */
void pidfiles_take_away(void);
void pidfiles_put_back(void);

/*
 * Handover mode: the next generation writes its own over this one's, and removes them when it is called off. So this
 * one remembers those that name it, and puts back what is gone, or names a process that is gone; with
 * `from_the_living` also what names another generation.
 */
void pidfiles_remember(void);
void pidfiles_restore(bool from_the_living);

#endif
