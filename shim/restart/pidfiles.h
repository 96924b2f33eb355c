/* SPDX-License-Identifier: MIT */
/*
 * Pid files of the program's own: the next generation has the same pid, finds it there, and would say that it runs
 * already.
 */
#ifndef CPR_RESTART_PIDFILES_H
#define CPR_RESTART_PIDFILES_H

#include "base/attr.h"

#include <fcntl.h>

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
 * Before exec: removes those that hold this process's pid and nothing else, and that no descriptor keeps. And: puts
 * them back. Holding the guard.
 */
void pidfiles_take_away(void);
void pidfiles_put_back(void);

#endif
