/* SPDX-License-Identifier: MIT */
/*
 * What must be so before the program starts: the library in front of LD_PRELOAD, a pid file that is no other program's.
 */
#ifndef CPR_LAUNCH_H
#define CPR_LAUNCH_H

#include "base/text.h"

#include <linux/limits.h>
#include <stdbool.h>
#include <sys/types.h>

/* The directory of this tool, whatever link it was called by. 0, -errno. */
int launch_directory(char *dir, size_t size);

/*
 * Where libcpr.so is: beside this tool, or where it is installed with it. 0; -ENOENT: nowhere; -EINVAL: the path has a
 * blank or a colon, where the loader would part it. On failure `why` says so.
 */
int launch_library(char path[PATH_MAX], struct text *why);

/*
 * Puts the library in front of what LD_PRELOAD holds; another libcpr.so there goes. Only AddressSanitizer's runtime
 * stays before it, and where the program at `path` is linked with that, it is told not to insist on being first. 0, or
 * -ENOMEM.
 */
int launch_preload(const char *library, const char *path);

/*
 * Writes our pid, which will be the program's. 0; -EEXIST: *other is running already, it holds a lock on the file or
 * was started with it; -errno. The lock ends with the exec: it is the file's content that says which process runs.
 */
int launch_pidfile(const char *path, pid_t *other);

/* The pid file that is ours and its lock, for the next image of this process; -1: none. And the next image's part. */
int launch_pidfile_held(const char **path);
void launch_pidfile_resume(int fd, const char *path);

/*
 * Another process's environment becomes ours, but for the words that are `not_taken`; our own CPR_ variables come after
 * it. 0, or -ENOMEM.
 */
int launch_environment(char *const *theirs, bool (*not_taken)(const char *word));

/* LD_PRELOAD without the library: the next image is a tool, and puts its own there. */
int launch_no_preload(void);

/* After an exec that failed: the file goes again. */
void launch_pidfile_remove(void);

#endif
