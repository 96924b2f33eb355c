/* SPDX-License-Identifier: MIT */
/* Lines to stderr or to a file: no malloc, no stdio, no lock, keeps errno; any signal handler may call it. */
#ifndef CPR_BASE_LOG_H
#define CPR_BASE_LOG_H

#include "base/attr.h"

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/*
 * What is said and where. `path` NULL: stderr; else appended to that file, which is opened for each line (a kept-open
 * descriptor would be one more for the program to find, and to close). The string must stay; absolute.
 */
void log_to(enum log_level level, const char *path);

/*
 * In a process that is not ours: the inode of its standard error at the start if that was a socket, else 0. If it is
 * another socket later, nothing is logged there.
 */
void log_begin(uint64_t socket_ino);

/* "error", "warn", "info", "debug" into *level; 0, or -EINVAL and *level untouched. */
int log_level_parse(const char *name, enum log_level *level);

/* Says nothing until this is called with false: a line takes system calls that a seccomp filter may not know. */
void log_pause(bool on);

void log_line(enum log_level level, const char *format, ...) cpr_printf(2, 3);

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
