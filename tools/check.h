/* SPDX-License-Identifier: MIT */
/* Can a command be served? Finds it like execvp(3), and gives the reason if not. */
#ifndef CPR_CHECK_H
#define CPR_CHECK_H

#include "base/text.h"

#include <linux/limits.h>

/*
 * Finds the absolute path of a command: in PATH if it has no slash. Returns 0; -ENOENT; -EACCES: it may not be
 * executed; -ENAMETOOLONG. On failure *path is untouched, and `why` gets the reason.
 */
int check_find(const char *command, char path[PATH_MAX], struct text *why);

/*
 * Can the library be preloaded into the program at `path`, or into the interpreter of that script? The answer does not
 * depend on the caller. Returns 0; -ENOTSUP, or -errno of reading it, and `why` gets the reason.
 */
int check_served(const char *path, struct text *why);

/*
 * Can a program be served in handover mode under a seccomp filter? For one with -ENOTSUP from check_served. If not,
 * `why` may get a further reason.
 */
bool check_filtered(const char *path, struct text *why);

/*
 * Is it a shell that stays between cpr and the server (`sh -c COMMAND`, a script)? Then a restart would restart the
 * shell. False if the script has an exec somewhere: the file does not show whether that execs the server.
 */
bool check_shell_stays(const char *path, char *const argv[]);

#endif
