/* SPDX-License-Identifier: MIT */
/* Newfd: makes descriptors, and tries again with the hard limit when the soft one is reached. */
#define _GNU_SOURCE
#include "base/newfd.h"

#include "base/next.h"
#include "base/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

void newfd_lift_limit(bool on, struct rlimit *before)
{
	struct rlimit all;

	if (on && next_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, before))
		*before = (struct rlimit){0};
	all = (struct rlimit){before->rlim_max, before->rlim_max};
	if (before->rlim_cur < before->rlim_max)
		next_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, on ? &all : before, NULL);
}

bool newfd_has_free(size_t wanted)
{
	int saved_errno = errno;
	struct rlimit limit;

	if (next_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit))
		return true;
	for (rlim_t fd = limit.rlim_cur < INT_MAX ? limit.rlim_cur : INT_MAX; fd-- > 0 && wanted;)
		wanted -= next_fcntl((int)fd, F_GETFD, NULL) < 0;
	errno = saved_errno;
	return !wanted;
}

/* Was EMFILE the reason? Then lifts the soft limit to the hard one, for a second try. */
static bool may_try_again(struct rlimit *before)
{
	if (errno != EMFILE)
		return false;
	newfd_lift_limit(true, before);
	return true;
}

static int tried_again(int fd, struct rlimit *before)
{
	int saved_errno = errno;

	newfd_lift_limit(false, before);
	errno = saved_errno;
	return fd;
}

int newfd_socket(int domain, int type, int protocol)
{
	int fd = next_socket(domain, type | SOCK_CLOEXEC, protocol);
	struct rlimit before;

	return fd < 0 && may_try_again(&before)
		       ? tried_again(next_socket(domain, type | SOCK_CLOEXEC, protocol), &before)
		       : fd;
}

int newfd_socketpair(int domain, int type, int pair[2])
{
	int r = next_socketpair(domain, type | SOCK_CLOEXEC, 0, pair);
	struct rlimit before;

	return r && may_try_again(&before) ? tried_again(next_socketpair(domain, type | SOCK_CLOEXEC, 0, pair), &before)
					   : r;
}

int newfd_open(const char *path, int flags)
{
	int fd = raw_open(path, flags | O_CLOEXEC, 0);
	struct rlimit before;

	return fd < 0 && may_try_again(&before) ? tried_again(raw_open(path, flags | O_CLOEXEC, 0), &before) : fd;
}

int newfd_memfd(const char *name, unsigned flags)
{
	int fd = next_memfd_create(name, flags | MFD_CLOEXEC);
	struct rlimit before;

	return fd < 0 && may_try_again(&before) ? tried_again(next_memfd_create(name, flags | MFD_CLOEXEC), &before)
						: fd;
}
