/* SPDX-License-Identifier: MIT */
/* Watches files whose change restarts the server. */
#ifndef CPR_WATCH_H
#define CPR_WATCH_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Watches each file; of a directory, the names in it. It also sees the change of a symbolic link that leads to the last
 * part of the path, as in mounted configurations. `files` are absolute, and stay the caller's. Returns the descriptor
 * to poll, or -errno.
 */
int watch_open(char *const *files, size_t count);

/*
 * The same with the descriptor of this process's last image. *changed: something changed meanwhile. Returns 0, or
 * -errno.
 */
int watch_resume(int fd, char *const *files, size_t count, bool *changed);

/* Call it when there is something to read: has one of them changed? */
bool watch_changed(void);

#endif
