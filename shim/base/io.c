/* SPDX-License-Identifier: MIT */
/* EINTR-safe I/O on top of raw system calls. */
#define _GNU_SOURCE
#include "base/io.h"

#include "base/attr.h"
#include "base/newfd.h"
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
#include <sys/stat.h>

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
	cleanup_fd int fd = newfd_open(path, O_RDONLY | O_NOCTTY);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = io_read_all(fd, bytes, size - 1);
	if (n >= 0)
		bytes[n] = '\0';
	return n;
}

union control {
	struct cmsghdr align;
	char room[CMSG_SPACE(IO_FDS_MAX * sizeof(int))];
};

int io_send_fds(int sock, const void *bytes, size_t n, const int *fds, size_t count)
{
	union control control;
	struct iovec iov = {(void *)bytes, n};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t done;

	if (count) {
		memset(&control, 0, CMSG_SPACE(count * sizeof(int)));
		message.msg_control = control.room;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, count * sizeof(int));
	}
	do
		done = raw_sendmsg(sock, &message, MSG_NOSIGNAL);
	while (done < 0 && errno == EINTR);
	return done < 0 ? -errno : 0;
}

int io_send(int sock, const void *bytes, size_t n, int pass)
{
	return io_send_fds(sock, bytes, n, &pass, pass >= 0);
}

/*
 * Stores up to `most` descriptors of the message, and closes the others: on 64 bits the padding has room for one more.
 * Returns how many it stored.
 */
static size_t io_take_passed(struct msghdr *message, int *fds, size_t most)
{
	struct cmsghdr *head = CMSG_FIRSTHDR(message);
	size_t n = 0;

	if (!head || head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
		return 0;
	for (size_t at = 0; at + sizeof(int) <= head->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
		int fd;

		memcpy(&fd, CMSG_DATA(head) + at, sizeof(int));
		if (n == most)
			raw_close(fd);
		else
			fds[n++] = fd;
	}
	return n;
}

/* *count is the room in fds, and then how many came. */
static ssize_t io_receive_message(int sock, void *bytes, size_t n, int *fds, size_t *count, int flags)
{
	union control control;
	struct iovec iov = {bytes, n};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	size_t most = *count;
	bool reset = false;
	ssize_t done;

	*count = 0;
	if (most) {
		message.msg_control = control.room;
		message.msg_controllen = CMSG_SPACE(most * sizeof(int));
	}
	do /* the kernel reports a reset once, before the data that was sent ahead of it */
		done = raw_recvmsg(sock, &message, MSG_CMSG_CLOEXEC | flags);
	while (done < 0 && (errno == EINTR || (errno == ECONNRESET && !reset && (reset = true))));
	if (done < 0)
		return -errno;
	*count = io_take_passed(&message, fds, most);
	if (!(message.msg_flags & MSG_TRUNC))
		return done;
	while (*count)
		raw_close(fds[--*count]);
	return -EMSGSIZE;
}

static ssize_t receive_one(int sock, void *bytes, size_t n, int *passed, int flags)
{
	size_t count = passed != NULL;
	int fd = -1;
	ssize_t r = io_receive_message(sock, bytes, n, &fd, &count, flags);

	if (passed)
		*passed = count ? fd : -1;
	return r;
}

ssize_t io_receive(int sock, void *bytes, size_t n, int *passed)
{
	return receive_one(sock, bytes, n, passed, 0);
}

ssize_t io_receive_fds(int sock, void *bytes, size_t n, int fds[IO_FDS_MAX], size_t *count)
{
	*count = IO_FDS_MAX;
	return io_receive_message(sock, bytes, n, fds, count, 0);
}

ssize_t io_peek(int sock, void *bytes, size_t n, int *passed)
{
	return receive_one(sock, bytes, n, passed, MSG_PEEK);
}

int io_memfd(const char *name)
{
	int fd = newfd_memfd(name, MFD_ALLOW_SEALING);

	return fd < 0 ? -errno : fd;
}

static void take_signal(int sig)
{
	uint64_t set = UINT64_C(1) << (sig - 1);
	struct timespec now = {0};

	next_sys(SYS_rt_sigtimedwait, &set, NULL, &now, sizeof(set));
}

static int set_size(int fd, size_t size)
{
	while (ftruncate(fd, (off_t)size))
		if (errno != EINTR)
			return -errno;
	return 0;
}

/* Beyond the limit: -EFBIG. Takes SIGXFSZ back, unless one was pending before. */
static int resize(int fd, size_t size)
{
	uint64_t xfsz = UINT64_C(1) << (SIGXFSZ - 1), mask, pending = 0;
	struct rlimit before = {RLIM_INFINITY, RLIM_INFINITY}, lifted;
	int r;

	next_sys(SYS_prlimit64, 0, RLIMIT_FSIZE, NULL, &before);
	if (before.rlim_cur >= size)
		return set_size(fd, size);
	lifted = (struct rlimit){before.rlim_max, before.rlim_max};
	next_sys(SYS_rt_sigprocmask, SIG_BLOCK, &xfsz, &mask, sizeof(mask));
	next_sys(SYS_rt_sigpending, &pending, sizeof(pending));
	next_sys(SYS_prlimit64, 0, RLIMIT_FSIZE, &lifted, NULL);
	r = set_size(fd, size);
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

/* Whole jiffies at each HZ: the kernel returns the value that was set. */
enum { ACCEPT_US = 240000 };

/*
 * One process at a time. Two at once would find each other's timeout, and not the program's, and put that back. A
 * process that reached accept() after the other's last step then slept without end. The kernel drops the lock when its
 * holder dies. A process that does not get the lock leaves the queue to the holder.
 */
static bool lock_listener(int listener, short type)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET};

	return !next_fcntl(listener, F_SETLK, &lock);
}

/*
 * O_NONBLOCK is the obvious way, but every process that has the listener shares it: a process that calls accept() in
 * this moment would get EAGAIN at once. The timeout is shared, too; but EAGAIN then comes only if no client comes for
 * so long.
 */
static int accept_within_limit(int listener)
{
	struct timeval before, limit = {.tv_usec = ACCEPT_US};
	socklen_t len = sizeof(before);
	int fd;

	if (getsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &before, &len))
		return -errno;
	if (!before.tv_sec && before.tv_usec == ACCEPT_US)
		before.tv_usec = 0; /* of a process that died here */
	if (next_setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)))
		return -errno;
	fd = raw_accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	fd = fd < 0 ? -errno : fd;
	next_setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &before, sizeof(before));
	return fd;
}

int io_accept_soon(int listener)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};
	int fd;

	if (raw_poll(&p, 1, 0) <= 0)
		return -EAGAIN;
	if (next_fcntl(listener, F_GETFL, NULL) & O_NONBLOCK) {
		fd = raw_accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		return fd < 0 ? -errno : fd;
	}
	if (!lock_listener(listener, F_WRLCK))
		return -EAGAIN;
	fd = accept_within_limit(listener);
	lock_listener(listener, F_UNLCK);
	return fd;
}

bool io_await_input(int fd, int ms)
{
	int64_t until = io_now() + ms * INT64_C(1000000), left = ms;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int r;

	while ((r = raw_poll(&p, 1, (int)left)) < 0 && errno == EINTR) {
		left = (until - io_now()) / 1000000;
		left = left < 0 ? 0 : left; /* a last look, which may be interrupted as well */
	}
	return r > 0;
}

bool io_same_file(const char *a, const char *b)
{
	struct stat x, y;

	return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}
