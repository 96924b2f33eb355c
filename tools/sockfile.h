/* SPDX-License-Identifier: MIT */
/* The file of a unix socket, as the kernel knows it: its name from bind() is not changed when the file is renamed. */
#ifndef CPR_SOCKFILE_H
#define CPR_SOCKFILE_H

#include <stdbool.h>
#include <sys/stat.h>

/* Is this file the socket's own? False also where the kernel does not say. */
bool sockfile_is(int fd, const struct stat *file);

#endif
