/* SPDX-License-Identifier: MIT */
/* EINTR-safe I/O on top of raw system calls. */
#define _GNU_SOURCE
#include "base/io.h"

#include "base/attr.h"
#include "base/next.h"
#include "base/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int io_write_all(int fd, const void *bytes, size_t n)
{
	const char *at = bytes;

	while (n) {
		ssize_t done = raw_write(fd, at, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done ? -errno : -EIO;
		at += done;
		n -= (size_t)done;
	}
	return 0;
}

ssize_t io_read_all(int fd, void *bytes, size_t n)
{
	char *at = bytes;

	while (n) {
		ssize_t done = raw_read(fd, at, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		if (!done)
			break;
		at += done;
		n -= (size_t)done;
	}
	return at - (char *)bytes;
}

ssize_t io_read_file(const char *path, char *bytes, size_t size)
{
	cleanup_fd int fd = raw_open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY, 0);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = io_read_all(fd, bytes, size - 1);
	if (n >= 0)
		bytes[n] = '\0';
	return n;
}

int io_send(int sock, const void *bytes, size_t n, int pass)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {(void *)bytes, n};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t done;

	if (pass >= 0) {
		struct cmsghdr *head = &control.align;

		message.msg_control = control.room;
		message.msg_controllen = sizeof(control.room);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(head), &pass, sizeof(int));
	}
	do
		done = raw_sendmsg(sock, &message, MSG_NOSIGNAL);
	while (done < 0 && errno == EINTR);
	return done < 0 ? -errno : 0;
}

/* The descriptor that came with a message, or -1. There is room for one more beside it on 64 bits: what nobody wants is closed. */
static int first_passed(struct msghdr *message)
{
	struct cmsghdr *head = CMSG_FIRSTHDR(message);
	int first = -1;

	if (!head || head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
		return -1;
	for (size_t at = 0; at + sizeof(int) <= head->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
		int fd;

		memcpy(&fd, CMSG_DATA(head) + at, sizeof(int));
		if (at)
			raw_close(fd);
		else
			first = fd;
	}
	return first;
}

static ssize_t receive(int sock, void *bytes, size_t n, int *passed, int flags)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {bytes, n};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t done;

	if (passed) {
		*passed = -1;
		message.msg_control = control.room;
		message.msg_controllen = sizeof(control.room);
	}
	do
		done = raw_recvmsg(sock, &message, MSG_CMSG_CLOEXEC | flags);
	while (done < 0 && errno == EINTR);
	if (done < 0)
		return -errno;
	if (passed)
		*passed = first_passed(&message);
	if (!(message.msg_flags & MSG_TRUNC))
		return done;
	if (passed)
		io_close(passed);
	return -EMSGSIZE;
}

ssize_t io_receive(int sock, void *bytes, size_t n, int *passed)
{
	return receive(sock, bytes, n, passed, 0);
}

ssize_t io_peek(int sock, void *bytes, size_t n, int *passed)
{
	return receive(sock, bytes, n, passed, MSG_PEEK);
}

int io_memfd(const char *name)
{
	int fd = next_memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	return fd < 0 ? -errno : fd;
}

static void take_signal(int sig)
{
	uint64_t set = UINT64_C(1) << (sig - 1);
	struct timespec now = {0};

	next_sys(SYS_rt_sigtimedwait, &set, NULL, &now, sizeof(set));
}

/* ftruncate() beyond the limit: -EFBIG, and no signal but one that was pending before. */
static int resize(int fd, size_t size)
{
	uint64_t xfsz = UINT64_C(1) << (SIGXFSZ - 1), mask, pending = 0;
	struct rlimit before = {RLIM_INFINITY, RLIM_INFINITY}, lifted;
	int r;

	next_sys(SYS_prlimit64, 0, RLIMIT_FSIZE, NULL, &before);
	if (before.rlim_cur >= size)
		return ftruncate(fd, (off_t)size) ? -errno : 0;
	lifted = (struct rlimit){before.rlim_max, before.rlim_max};
	next_sys(SYS_rt_sigprocmask, SIG_BLOCK, &xfsz, &mask, sizeof(mask));
	next_sys(SYS_rt_sigpending, &pending, sizeof(pending));
	next_sys(SYS_prlimit64, 0, RLIMIT_FSIZE, &lifted, NULL);
	r = ftruncate(fd, (off_t)size) ? -errno : 0;
	next_sys(SYS_prlimit64, 0, RLIMIT_FSIZE, &before, NULL);
	if (r == -EFBIG && !(pending & xfsz))
		take_signal(SIGXFSZ);
	next_sys(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
	return r;
}

int io_memfd_sized(const char *name, size_t size, int seals)
{
	int saved_errno = errno, r;
	cleanup_fd int fd = io_memfd(name);

	if (fd < 0)
		return fd;
	r = resize(fd, size);
	if (!r && next_fcntl(fd, F_ADD_SEALS, (void *)(long)seals))
		r = -errno;
	errno = saved_errno;
	return r ? r : steal_fd(&fd);
}

int io_move_up(int fd, int least)
{
	int up = next_fcntl(fd, F_DUPFD_CLOEXEC, (void *)(long)least);

	if (up < 0)
		return fd;
	raw_close(fd);
	return up;
}

int64_t io_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

void io_close(int *fd)
{
	int saved_errno = errno;

	if (*fd >= 0)
		raw_close(*fd);
	errno = saved_errno;
}

bool io_await_input(int fd, int ms)
{
	int64_t until = io_now() + ms * INT64_C(1000000), left = ms;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int r;

	do {
		r = raw_poll(&p, 1, (int)left);
		left = (until - io_now()) / 1000000;
	} while (r < 0 && errno == EINTR && left > 0);
	return r > 0;
}
