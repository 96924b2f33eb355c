/* SPDX-License-Identifier: MIT */
/* Can a command be served? Finds it as execvp(3) would, and says what stands in the way. */
#ifndef CPR_CHECK_H
#define CPR_CHECK_H

#include "base/text.h"

#include <linux/limits.h>

/*
 * The absolute path of a command: in PATH if it has no slash. 0; -ENOENT: there is none; -EACCES: it may not be
 * executed; -ENAMETOOLONG. On failure *path is untouched, and `why` says what is wrong.
 */
int check_find(const char *command, char path[PATH_MAX], struct text *why);

/*
 * Can the library get into what stands at `path`, or into the interpreter of this script? The answer does not depend on
 * the caller. 0; -ENOTSUP, or -errno of reading it, and `why` says why not.
 */
int check_served(const char *path, struct text *why);

/*
 * Can a program that nothing can be preloaded into be served in handover mode, under a seccomp filter? For one of which
 * check_served has said -ENOTSUP. False: what that said is the last word, or `why` says more.
 */
bool check_filtered(const char *path, struct text *why);

/*
 * Is it a shell that will stand between cpr and the server (`sh -c COMMAND`, a script)? Then what a restart would
 * restart is the shell. Not if the script says exec somewhere: whether it does so for the server is not to be seen
 * from here.
 */
bool check_shell_stays(const char *path, char *const argv[]);

#endif
