/* SPDX-License-Identifier: MIT */
/* The files of the next generation: would the kernel run the program, and the loader preload the library? */
#ifndef CPR_RESTART_PROGRAM_H
#define CPR_RESTART_PROGRAM_H

#include "base/text.h"

#include <stdbool.h>

/*
 * Checks `path` as the kernel does at exec, and the library that LD_PRELOAD names. If it would not run, `why` gets the
 * reason, for a person. One thread at a time. A signal handler may call it.
 */
bool program_would_run(const char *path, struct text *why);

#endif
