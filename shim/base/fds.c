/* SPDX-License-Identifier: MIT */
/* Which descriptors are open: getdents64 by hand, since opendir calls malloc. */
#define _GNU_SOURCE
#include "base/fds.h"

#include "base/attr.h"
#include "base/io.h"
#include "base/newfd.h"
#include "base/next.h"
#include "base/raw.h"
#include "base/room.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>

struct entry64 { /* getdents64(2) */
	uint64_t ino;
	int64_t off;
	uint16_t length;
	uint8_t type;
	char name[];
};

void fds_row_end(struct fds_row *row)
{
	if (row->first >= 0 &&
	    next_close_range((unsigned)row->first, (unsigned)row->last, CLOSE_RANGE_CLOEXEC)) /* before Linux 5.11 */
		for (int fd = row->first; fd <= row->last; fd++)
			next_fcntl(fd, F_SETFD, (void *)(long)FD_CLOEXEC);
	*row = FDS_NO_ROW;
}

void fds_row_close_at_exec(struct fds_row *row, int fd)
{
	if (row->first >= 0 && fd == row->last + 1) {
		row->last = fd;
		return;
	}
	fds_row_end(row);
	*row = (struct fds_row){fd, fd};
}

static void walk_numbers(void (*each)(int fd, void *arg), void *arg)
{
	struct rlimit limit = {.rlim_cur = 65536};

	getrlimit(RLIMIT_NOFILE, &limit);
	for (int fd = 0; fd < 65536 && (rlim_t)fd < limit.rlim_cur; fd++)
		if (next_fcntl(fd, F_GETFD, NULL) >= 0)
			each(fd, arg);
}

/* `own`: the directory lists this process's descriptors, and the one that reads it is left out. */
static cpr_startup bool fds_walk_numbers(const char *path, bool own, void (*each)(int number, void *arg), void *arg)
{
	cleanup_room char *bytes = room_take();
	int saved_errno = errno;
	cleanup_fd int dir = newfd_open(path, O_RDONLY | O_DIRECTORY);
	long n;

	if (dir < 0 || !bytes) {
		errno = saved_errno;
		return false;
	}
	while ((n = next_sys(SYS_getdents64, dir, bytes, ROOM_SIZE)) > 0)
		for (long at = 0; at < n;) {
			const struct entry64 *e = (const struct entry64 *)(bytes + at);
			const char *digit = e->name;
			int number = 0;

			for (; *digit >= '0' && *digit <= '9'; digit++)
				number = number * 10 + (*digit - '0');
			if (digit > e->name && !*digit && !(own && number == dir))
				each(number, arg);
			at += e->length;
		}
	errno = saved_errno;
	return true;
}

bool fds_walk_in(const char *path, void (*each)(int number, void *arg), void *arg)
{
	return fds_walk_numbers(path, false, each, arg);
}

cpr_startup void fds_walk(void (*each)(int fd, void *arg), void *arg)
{
	int saved_errno = errno;

	if (!fds_walk_numbers("/proc/self/fd", true, each, arg))
		walk_numbers(each, arg);
	errno = saved_errno;
}
