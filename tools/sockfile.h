/* SPDX-License-Identifier: MIT */
/* The file of a unix socket, by the kernel's record: a rename of the file does not change the name from bind(). */
#ifndef CPR_SOCKFILE_H
#define CPR_SOCKFILE_H

#include <stdbool.h>
#include <sys/stat.h>

/* Is this file the socket's own? False also if the kernel does not tell. */
bool sockfile_is(int fd, const struct stat *file);

#endif
