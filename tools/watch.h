/* SPDX-License-Identifier: MIT */
/* A change of these files restarts the server. */
#ifndef CPR_WATCH_H
#define CPR_WATCH_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Watches each file, or what is in it if it is a directory: also through a symbolic link that is swapped, in any part
 * of the path's last step, as mounted configurations are. `files`: absolute; they stay the caller's. The descriptor to
 * be polled, or -errno.
 */
int watch_open(char *const *files, size_t count);

/*
 * The same with the descriptor of the last image of this process. *changed: something has happened meanwhile. 0, or
 * -errno.
 */
int watch_resume(int fd, char *const *files, size_t count, bool *changed);

/* There is something to read: has one of them changed? */
bool watch_changed(void);

#endif
