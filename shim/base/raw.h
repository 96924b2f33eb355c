/* SPDX-License-Identifier: MIT */
/*
 * System calls under the names of libc's functions, for our own calls. libc's are cancellation points: they would end
 * the thread in the middle of our work. While a pthread_cancel() is pending, glibc's wait for its signal, even if
 * cancellation is disabled; in a handler that signal may never come. The program's own calls use next_close() and its
 * like, which must be cancellation points. -1 with errno. A signal handler may call these.
 */
#ifndef CPR_BASE_RAW_H
#define CPR_BASE_RAW_H

#include "base/next.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static inline int raw_openat(int dir, const char *path, int flags, mode_t mode)
{
	return (int)next_sys(SYS_openat, dir, path, flags, mode);
}

static inline int raw_open(const char *path, int flags, mode_t mode)
{
	return raw_openat(AT_FDCWD, path, flags, mode);
}

static inline int raw_close(int fd)
{
	return (int)next_sys(SYS_close, fd);
}

static inline ssize_t raw_read(int fd, void *bytes, size_t n)
{
	return next_sys(SYS_read, fd, bytes, n);
}

static inline ssize_t raw_write(int fd, const void *bytes, size_t n)
{
	return next_sys(SYS_write, fd, bytes, n);
}

static inline int raw_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return (int)next_sys(SYS_connect, fd, addr, len);
}

static inline int raw_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	return (int)next_sys(SYS_accept4, fd, addr, len, flags);
}

static inline ssize_t raw_send(int fd, const void *bytes, size_t n, int flags)
{
	return next_sys(SYS_sendto, fd, bytes, n, flags, NULL, 0);
}

static inline ssize_t raw_recv(int fd, void *bytes, size_t n, int flags)
{
	return next_sys(SYS_recvfrom, fd, bytes, n, flags, NULL, NULL);
}

static inline ssize_t raw_sendmsg(int fd, const struct msghdr *message, int flags)
{
	return next_sys(SYS_sendmsg, fd, message, flags);
}

static inline ssize_t raw_recvmsg(int fd, struct msghdr *message, int flags)
{
	return next_sys(SYS_recvmsg, fd, message, flags);
}

static inline int raw_poll(struct pollfd *fds, nfds_t n, int ms)
{
#ifdef SYS_poll /* libc's choice: a seccomp filter of the program's may know no other */
	return (int)next_sys(SYS_poll, fds, n, ms);
#else
	struct timespec time = {ms / 1000, ms % 1000 * 1000000L};

	return (int)next_sys(SYS_ppoll, fds, n, ms < 0 ? NULL : &time, NULL, 0);
#endif
}

static inline int raw_waitid(idtype_t kind, id_t id, siginfo_t *info, int options)
{
	return (int)next_sys(SYS_waitid, kind, id, info, options, NULL);
}

static inline ssize_t raw_getrandom(void *bytes, size_t n, unsigned flags)
{
	return next_sys(SYS_getrandom, bytes, n, flags);
}

#endif
