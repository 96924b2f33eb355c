/* SPDX-License-Identifier: MIT */
/* Globs, as fnmatch(3) without flags has them in the C locale. */
#ifndef CPR_BASE_GLOB_H
#define CPR_BASE_GLOB_H

#include <stdbool.h>

/*
 * Is `name` one that `glob` names? `*` also matches a slash. Not fnmatch(3) itself: glibc's takes over 2 KiB of
 * stack and mallocs for long names, a program may define its own, and the answer hangs on the locale. For any
 * handler.
 */
bool glob_matches(const char *glob, const char *name);

/* Are its brackets closed? One that is not would stand for itself, and that is hardly ever meant. */
bool glob_is_closed(const char *glob);

#endif
