/* SPDX-License-Identifier: MIT */
/*
 * The files that the next generation is made of: would the kernel run the program, and would the loader preload the
 * library?
 */
#ifndef CPR_RESTART_PROGRAM_H
#define CPR_RESTART_PROGRAM_H

#include "base/text.h"

#include <stdbool.h>

/*
 * Looks at `path` as the kernel does when it execs that, and at the library that LD_PRELOAD names. True; or false and
 * the reason, for a person, in `why`. One thread at a time. A signal handler may call it.
 */
bool program_would_run(const char *path, struct text *why);

#endif
