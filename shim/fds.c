/* SPDX-License-Identifier: MIT */
/* Which descriptors are open: getdents64 by hand, since opendir calls malloc. */
#define _GNU_SOURCE
#include "fds.h"

#include "io.h"
#include "next.h"

#include <errno.h>
#include <fcntl.h>
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

static void walk_numbers(void (*each)(int fd, void *arg), void *arg)
{
	struct rlimit limit = {.rlim_cur = 65536};

	getrlimit(RLIMIT_NOFILE, &limit);
	for (int fd = 0; fd < 65536 && (rlim_t)fd < limit.rlim_cur; fd++)
		if (next_fcntl(fd, F_GETFD, NULL) >= 0)
			each(fd, arg);
}

void fds_walk(void (*each)(int fd, void *arg), void *arg)
{
	_Alignas(struct entry64) char bytes[2048];
	int kept = errno;
	cleanup_fd int dir = next_open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	long n;

	if (dir < 0) {
		walk_numbers(each, arg);
		errno = kept;
		return;
	}
	while ((n = next_sys(SYS_getdents64, dir, bytes, sizeof(bytes))) > 0)
		for (long at = 0; at < n;) {
			const struct entry64 *e = (const struct entry64 *)(bytes + at);
			int fd = 0;

			for (const char *digit = e->name; *digit >= '0' && *digit <= '9'; digit++)
				fd = fd * 10 + (*digit - '0');
			if (e->name[0] != '.' && fd != dir)
				each(fd, arg);
			at += e->length;
		}
	errno = kept;
}
