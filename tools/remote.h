/* SPDX-License-Identifier: MIT */
/* Another process's descriptors, memory and paths. This takes the rights of ptrace(2). */
#ifndef CPR_REMOTE_H
#define CPR_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Returns a pidfd of a thread, or of its process if the kernel has none for threads (before 6.9); or -errno. */
int remote_open(pid_t tid);

/* Returns a close-on-exec duplicate of its descriptor. -EBADF: it has none of this number; -EPERM; -errno. */
int remote_descriptor(int pidfd, int number);

/* Does the kernel, or a container's filter, allow such duplicates at all? Returns 0, or -errno. */
int remote_allowed(void);

/* Returns F_GETFD and F_GETFL combined, like the flags of open(2); or -errno. */
int remote_flags(pid_t tid, int number);

/*
 * Read exactly n bytes of its memory; or a string with its NUL, `size` bytes at most. Return 0, -EFAULT or
 * -ENAMETOOLONG.
 */
int remote_read(pid_t tid, uint64_t address, void *bytes, size_t n);
int remote_string(pid_t tid, uint64_t address, char *string, size_t size);

/*
 * Makes a path that it uses, relative to its descriptor `directory` or AT_FDCWD, absolute and lexically clean. Returns
 * 0, or -errno.
 */
int remote_path(pid_t tid, int directory, const char *path, char *out);

/* Looks at the file of an absolute path under its own root directory. Returns 0, or -errno. */
struct stat;
int remote_stat(pid_t tid, const char *path, struct stat *st);

/* Has it this socket open? Returns 1 or 0; -errno if that cannot be seen (it is ending, or another user's). */
int remote_has_socket(pid_t pid, uint64_t ino);

/* Returns the inode of the socket at the number; 0: there is none. The other: is it this one? */
uint64_t remote_socket(pid_t pid, int number);
bool remote_is_socket(pid_t pid, int number, uint64_t ino);

/* Does one of its epoll instances watch this socket under this number? True also if the number is closed there. */
bool remote_is_polled(pid_t pid, int number, uint64_t ino);

#endif
