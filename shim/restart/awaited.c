/* SPDX-License-Identifier: MIT */
/* Awaited: what can end a wait of the program. */
#define _GNU_SOURCE
#include "restart/awaited.h"

#include "base/io.h"
#include "base/next.h"
#include "base/readable.h"
#include "base/text.h"
#include "fd/conn.h"
#include "process/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	MEMBERS_MAX = 16, /* of a greater set it is not asked: so many are not there before the first client */
	LINE_MAX = 100,   /* of fdinfo, for each member; the head is not longer than two */
};

static enum awaited whole(unsigned seen, bool limited)
{
	if (seen & AWAITED_WORK || (!seen && !limited))
		return AWAITED_WORK;
	return seen & AWAITED_ANSWER ? AWAITED_ANSWER : AWAITED_ITSELF;
}

static int option(int fd, int name)
{
	socklen_t len = sizeof(int);
	int value = -1;

	return getsockopt(fd, SOL_SOCKET, name, &value, &len) ? -1 : value;
}

/* Has this process made the pair of which that is one end? Of a parent's pair the kernel tells the parent. */
static bool is_own_pair(int fd)
{
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) && peer.pid == getpid();
}

/*
 * A connection that was not accepted was made; one without a peer that does not listen is still connecting. Neither a
 * pair's peer has a name, nor that of an accepted unix socket.
 */
static enum awaited socket_brings(int fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	if (conn_at(fd))
		return AWAITED_WORK;
	if (!getpeername(fd, (struct sockaddr *)&peer, &len))
		return len > sizeof(sa_family_t) ? AWAITED_ANSWER : is_own_pair(fd) ? AWAITED_ITSELF : AWAITED_WORK;
	return errno == ENOTCONN && option(fd, SO_TYPE) == SOCK_STREAM && !option(fd, SO_ACCEPTCONN) ? AWAITED_ANSWER
												     : AWAITED_WORK;
}

/* pipe(2) gives two numbers that follow each other. Where only one end is here, another process has the other. */
static bool is_own_pipe(int fd, const struct stat *pipe)
{
	struct stat other;

	for (int end = fd - 1; end <= fd + 1; end += 2)
		if (end >= 0 && !fstat(end, &other) && S_ISFIFO(other.st_mode) && other.st_ino == pipe->st_ino &&
		    other.st_dev == pipe->st_dev)
			return true;
	return false;
}

/* Timers and wake-ups. What tells of signals, files and processes has no type either, only its name. */
static enum awaited nameless_brings(int fd)
{
	char path[40], name[32] = "";
	struct text t = TEXT_ON(path);

	text_format(&t, "/proc/self/fd/%d", fd);
	if (next_sys(SYS_readlinkat, AT_FDCWD, path, name, sizeof(name) - 1) < 0)
		return AWAITED_WORK;
	return !strcmp(name, "anon_inode:[eventfd]") || !strcmp(name, "anon_inode:[timerfd]") ? AWAITED_ITSELF
											      : AWAITED_WORK;
}

static enum awaited brings(int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return AWAITED_WORK;
	if (S_ISSOCK(st.st_mode))
		return socket_brings(fd);
	if (S_ISFIFO(st.st_mode))
		return is_own_pipe(fd, &st) ? AWAITED_ITSELF : AWAITED_WORK;
	return st.st_mode & S_IFMT ? AWAITED_WORK : nameless_brings(fd);
}

enum awaited awaited_by_poll(struct pollfd *fds, nfds_t n, bool limited)
{
	int saved_errno = errno;
	unsigned seen = 0;

	if (n > MEMBERS_MAX || !readable(fds, n * sizeof(*fds)) || sandboxed())
		return AWAITED_WORK;
	for (nfds_t i = 0; i < n && !(seen & AWAITED_WORK); i++)
		if (fds[i].fd >= 0)
			seen |= brings(fds[i].fd);
	errno = saved_errno;
	return whole(seen, limited);
}

static bool is_in_set(int fd, const fd_set *set)
{
	return set && FD_ISSET(fd, set);
}

enum awaited awaited_by_select(int n, const fd_set *r, const fd_set *w, const fd_set *x, bool limited)
{
	int saved_errno = errno, members = 0;
	unsigned seen = 0;

	if (n > FD_SETSIZE || sandboxed())
		return AWAITED_WORK;
	for (int fd = 0; fd < n && !(seen & AWAITED_WORK); fd++)
		if (is_in_set(fd, r) || is_in_set(fd, w) || is_in_set(fd, x))
			seen |= ++members > MEMBERS_MAX ? AWAITED_WORK : brings(fd);
	errno = saved_errno;
	return whole(seen, limited);
}

/* The lines that begin with "tfd:" have the number that was registered. It may mean something else by now. */
static unsigned members_bring(const char *at)
{
	unsigned seen = 0;

	while (!(seen & AWAITED_WORK) && (at = strstr(at, "tfd:"))) {
		int fd = 0;

		at += strlen("tfd:");
		at += strspn(at, " ");
		for (; *at >= '0' && *at <= '9'; at++)
			fd = fd * 10 + (*at - '0');
		seen |= brings(fd);
	}
	return seen;
}

/* Any thread of the program's: not in the frame of the wait, which may be on a small stack. */
static __attribute__((noinline)) unsigned set_brings(int epfd)
{
	char path[40], info[(MEMBERS_MAX + 2) * LINE_MAX];
	struct text t = TEXT_ON(path);
	ssize_t n;

	text_format(&t, "/proc/self/fdinfo/%d", epfd);
	n = io_read_file(path, info, sizeof(info));
	return n <= 0 || n == sizeof(info) - 1 ? AWAITED_WORK : members_bring(info);
}

enum awaited awaited_by_epoll(int epfd, bool limited)
{
	int saved_errno = errno;
	unsigned seen = sandboxed() ? AWAITED_WORK : set_brings(epfd);

	errno = saved_errno;
	return whole(seen, limited);
}
