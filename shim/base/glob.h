/* SPDX-License-Identifier: MIT */
/* Globs: those of fnmatch(3) without flags, in the C locale. */
#ifndef CPR_BASE_GLOB_H
#define CPR_BASE_GLOB_H

#include <stdbool.h>

/*
 * Does `name` match `glob`? `*` also matches a slash. This is not fnmatch(3) itself: glibc's takes over 2 KiB of stack,
 * and mallocs for long names. Its answer depends on the locale, and a program may define its own. A signal handler may
 * call this.
 */
bool glob_matches(const char *glob, const char *name);

/* Is every bracket of `glob` closed? An open one would stand for itself, which is hardly ever meant. */
bool glob_is_closed(const char *glob);

#endif
