/* SPDX-License-Identifier: MIT */
/* Preparations before the program starts: the library in LD_PRELOAD, and a pid file of its own. */
#ifndef CPR_LAUNCH_H
#define CPR_LAUNCH_H

#include "base/text.h"

#include <linux/limits.h>
#include <stdbool.h>
#include <sys/types.h>

/* Writes the directory of this tool, with links resolved. Returns 0, or -errno. */
int launch_directory(char *dir, size_t size);

/*
 * Finds libcpr.so: beside this tool, or where it is installed with it. Returns 0; -ENOENT; -EINVAL: the path has a
 * blank or a colon, at which the loader would split it. On failure `why` gets the reason.
 */
int launch_library(char path[PATH_MAX], struct text *why);

/*
 * Puts the library first in LD_PRELOAD, and removes another libcpr.so. Only AddressSanitizer's runtime stays before it.
 * If the program at `path` is linked with that runtime, its option is set that lets it not be first. Returns 0, or
 * -ENOMEM.
 */
int launch_preload(const char *library, const char *path);

/*
 * Writes our pid, which will be the program's. Returns 0; -EEXIST: *other is running already, since it has the file
 * locked or was started with it; -errno. The lock ends with the exec: then the content of the file tells which process
 * runs.
 */
int launch_pidfile(const char *path, pid_t *other);

/* Returns our pid file and its lock, for the next image of this process; -1: none. The other is for that image. */
int launch_pidfile_held(const char **path);
void launch_pidfile_resume(int fd, const char *path);

/*
 * Takes over another process's environment, except words for which `not_taken` is true. Our own CPR_ variables follow
 * it. Returns 0, or -ENOMEM.
 */
int launch_environment(char *const *theirs, bool (*not_taken)(const char *word));

/* Removes the library from LD_PRELOAD: the next image is a tool, and adds its own. */
int launch_no_preload(void);

/* After an exec that failed: removes the file. */
void launch_pidfile_remove(void);

#endif
