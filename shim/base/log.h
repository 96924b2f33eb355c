/* SPDX-License-Identifier: MIT */
/* Log lines to stderr or to a file: no malloc, no stdio, no lock. A signal handler may call these. They keep errno. */
#ifndef CPR_BASE_LOG_H
#define CPR_BASE_LOG_H

#include "base/attr.h"

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/*
 * Sets the level and the file. `path` is absolute and must stay; NULL is stderr. Each line opens the file and appends
 * to it. An open descriptor would be one more for the program to find and to close.
 */
void log_to(enum log_level level, const char *path);

/*
 * For a process that is not ours: the inode of its standard error at the start if that was a socket, else 0. If another
 * socket is there later, nothing is logged to it.
 */
void log_begin(uint64_t socket_ino);

/* Parses "error", "warn", "info" or "debug" into *level. Returns 0, or -EINVAL and leaves *level untouched. */
int log_level_parse(const char *name, enum log_level *level);

/* true: log nothing until a call with false. A line makes system calls that a seccomp filter may not allow. */
void log_pause(bool on);

void log_line(enum log_level level, const char *format, ...) cpr_printf(2, 3);

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
