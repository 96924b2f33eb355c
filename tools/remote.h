/* SPDX-License-Identifier: MIT */
/* What belongs to another process: its descriptors, its memory, its paths. The rights are those of ptrace(2). */
#ifndef CPR_REMOTE_H
#define CPR_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A thread's, or its process's where the kernel knows no descriptors of threads (before 6.9). A pidfd, or -errno. */
int remote_open(pid_t tid);

/* A duplicate, close-on-exec, of its descriptor. -EBADF: it has none of this number; -EPERM; -errno. */
int remote_descriptor(int pidfd, int number);

/* Does the kernel, or a container's filter, let descriptors be duplicated at all? 0, or -errno. */
int remote_allowed(void);

/* F_GETFD and F_GETFL in one, as open(2) has them. -errno. */
int remote_flags(pid_t tid, int number);

/* Exactly so many bytes of its memory, or a string with its NUL, at most `size` with it. 0; -EFAULT; -ENAMETOOLONG. */
int remote_read(pid_t tid, uint64_t address, void *bytes, size_t n);
int remote_string(pid_t tid, uint64_t address, char *string, size_t size);

/* A path that it names, seen from its descriptor `directory`, or AT_FDCWD: absolute and lexically clean. 0, -errno. */
int remote_path(pid_t tid, int directory, const char *path, char *out);

/* The file that it means by an absolute path: with its own root directory. 0, -errno. */
struct stat;
int remote_stat(pid_t tid, const char *path, struct stat *st);

/* Has it this socket open? 1, 0; -errno: it cannot be told (it is ending, or it is another user's). */
int remote_has_socket(pid_t pid, uint64_t ino);

/* The inode of the socket that stands at the number; 0: there is none. Is it this one? */
uint64_t remote_socket(pid_t pid, int number);
bool remote_is_socket(pid_t pid, int number, uint64_t ino);

/* Does an epoll instance of its watch this socket, under this number? Also when the number is closed there. */
bool remote_is_polled(pid_t pid, int number, uint64_t ino);

#endif
