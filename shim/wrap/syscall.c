/* SPDX-License-Identifier: MIT */
/* syscall(2): node, nginx and others reach accept4, memfd_create and more by their numbers. */
#define _GNU_SOURCE
#include "fd/conn.h"
#include "process/doorbell.h"
#include "base/log.h"
#include "process/light.h"
#include "base/next.h"
#include "base/readable.h"
#include "process/identity.h"
#include "wrap/wrap.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * What a ring accepts, reads and polls passes no wrapper. Without one, libuv takes epoll; with one, node 24 changes
 * its epoll sets through the ring.
 */
static bool denies_io_uring(void)
{
	static atomic_flag said = ATOMIC_FLAG_INIT;

	if (!cpr__table || atomic_flag_test_and_set(&said))
		;
	else if (cpr__settings.io_uring)
		log_info("the program uses io_uring: what it accepts, reads and polls there is not seen by cpr, and is "
			 "cut by a restart");
	else
		log_info("the program has asked for an io_uring, and was told that there is none (--io-uring=allow)");
	return cpr__table && !cpr__settings.io_uring;
}

/*
 * The kernel's sets are shorter than libc's, and its struct sigaction is another one. Here only the doorbell is
 * taken out.
 */
static long mask_by_number(long how, const void *set, void *old, long size)
{
	sigset_t room;

	if (how != SIG_UNBLOCK && size == _NSIG / 8)
		set = cpr__spared(set, &room);
	return next_sys(SYS_rt_sigprocmask, how, set, old, size);
}

static long sockets(long nr, const long *a, bool *known)
{
	switch (nr) {
	case SYS_socket:
		return socket((int)a[0], (int)a[1], (int)a[2]);
	case SYS_socketpair:
		return socketpair((int)a[0], (int)a[1], (int)a[2], (int *)a[3]);
	case SYS_bind:
		return bind((int)a[0], (const struct sockaddr *)a[1], (socklen_t)a[2]);
	case SYS_listen:
		return listen((int)a[0], (int)a[1]);
	case SYS_connect:
		return connect((int)a[0], (const struct sockaddr *)a[1], (socklen_t)a[2]);
	case SYS_accept:
		return accept((int)a[0], (struct sockaddr *)a[1], (socklen_t *)a[2]);
	case SYS_accept4:
		return accept4((int)a[0], (struct sockaddr *)a[1], (socklen_t *)a[2], (int)a[3]);
	case SYS_getsockname:
		return getsockname((int)a[0], (struct sockaddr *)a[1], (socklen_t *)a[2]);
	case SYS_setsockopt:
		return setsockopt((int)a[0], (int)a[1], (int)a[2], (const void *)a[3], (socklen_t)a[4]);
	case SYS_epoll_create1:
		return epoll_create1((int)a[0]);
	case SYS_epoll_ctl:
		return epoll_ctl((int)a[0], (int)a[1], (int)a[2], (struct epoll_event *)a[3]);
	default:
		*known = false;
		return 0;
	}
}

/* What moves bytes: only connections are counted. Everything else stays the system call that was asked for. */
static long transfers(long nr, const long *a, bool *known)
{
	int fd = (int)a[0];

	/* what comes or goes in a message may be a connection, whatever it comes by */
	if (likely(!conn_at(fd)) && nr != SYS_recvmsg && nr != SYS_recvmmsg && nr != SYS_sendmsg &&
	    nr != SYS_sendmmsg && !(nr == SYS_splice && conn_at((int)a[2]))) {
		*known = false;
		return 0;
	}
	switch (nr) {
	case SYS_read:
		return read(fd, (void *)a[1], (size_t)a[2]);
	case SYS_readv:
		return readv(fd, (const struct iovec *)a[1], (int)a[2]);
	case SYS_preadv2: /* the offset is a[3] and, where a long is short, a[4]; a stream has none but -1 */
		return preadv2(fd, (const struct iovec *)a[1], (int)a[2], a[3], (int)a[5]);
	case SYS_recvfrom:
		return recvfrom(fd, (void *)a[1], (size_t)a[2], (int)a[3], (struct sockaddr *)a[4], (socklen_t *)a[5]);
	case SYS_recvmsg:
		return recvmsg(fd, (struct msghdr *)a[1], (int)a[2]);
	case SYS_recvmmsg:
		return recvmmsg(fd, (struct mmsghdr *)a[1], (unsigned)a[2], (int)a[3], (struct timespec *)a[4]);
	case SYS_write:
		return write(fd, (const void *)a[1], (size_t)a[2]);
	case SYS_writev:
		return writev(fd, (const struct iovec *)a[1], (int)a[2]);
	case SYS_pwritev2:
		return pwritev2(fd, (const struct iovec *)a[1], (int)a[2], a[3], (int)a[5]);
	case SYS_sendto:
		return sendto(fd, (const void *)a[1], (size_t)a[2], (int)a[3], (const struct sockaddr *)a[4],
			      (socklen_t)a[5]);
	case SYS_sendmsg:
		return sendmsg(fd, (const struct msghdr *)a[1], (int)a[2]);
	case SYS_sendmmsg:
		return sendmmsg(fd, (struct mmsghdr *)a[1], (unsigned)a[2], (int)a[3]);
	case SYS_sendfile:
		return sendfile(fd, (int)a[1], (off_t *)a[2], (size_t)a[3]);
	case SYS_splice:
		return splice(fd, (off64_t *)a[1], (int)a[2], (off64_t *)a[3], (size_t)a[4], (unsigned)a[5]);
	case SYS_shutdown:
		return shutdown(fd, (int)a[1]);
	default:
		*known = false;
		return 0;
	}
}

/*
 * The doorbell cuts waits short, by whatever name they were called. The kernel refuses a mask of another size than
 * its own.
 */
static long waits(long nr, const long *a, bool *known)
{
	const sigset_t *mask = (const sigset_t *)a[4];
	sigset_t room = {0};

	switch (nr) {
	case SYS_epoll_pwait:
	case SYS_epoll_pwait2:
		if (mask && (a[5] != _NSIG / 8 || !readable(mask, _NSIG / 8)))
			break;
		if (mask)
			mask = memcpy(&room, mask, _NSIG / 8);
		if (nr == SYS_epoll_pwait)
			return epoll_pwait((int)a[0], (struct epoll_event *)a[1], (int)a[2], (int)a[3], mask);
		return epoll_pwait2((int)a[0], (struct epoll_event *)a[1], (int)a[2], (const struct timespec *)a[3],
				    mask);
	case SYS_ppoll:
		return cpr__poll_by_number(a);
	case SYS_pselect6:
		return cpr__select_by_number(a);
	case SYS_nanosleep:
		return nanosleep((const struct timespec *)a[0], (struct timespec *)a[1]);
	case SYS_wait4:
		return wait4((pid_t)a[0], (int *)a[1], (int)a[2], (struct rusage *)a[3]);
	case SYS_waitid:
		if (a[4]) /* libc's waitid has no room for what was used */
			break;
		return waitid((idtype_t)a[0], (id_t)a[1], (siginfo_t *)a[2], (int)a[3]);
	}
	*known = false;
	return 0;
}

/*
 * Calls that return EINTR after any handler, and can be repeated unchanged except for a relative timeout: that is their
 * argument `timeout` (-1: none).
 */
static const struct again {
	long nr;
	int timeout;
} agains[] = {
#ifdef SYS_io_getevents
	{SYS_io_getevents, 4},    {SYS_io_pgetevents, 4},
#endif
	{SYS_semtimedop, 3},      {SYS_msgrcv, -1},        {SYS_msgsnd, -1},
	{SYS_rt_sigtimedwait, 2}, {SYS_rt_sigsuspend, -1}, {SYS_clock_nanosleep, -1},
#ifdef SYS_semop
	{SYS_semop, -1},
#endif
};

static long call(long nr, const long *a)
{
	return next_syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static long by_number_again(const struct again *again, const long *given)
{
	const struct timespec *timeout = again->timeout < 0 ? NULL : (const struct timespec *)given[again->timeout];
	long a[6];
	int64_t began = cpr__began(timeout);
	struct timespec room;

	memcpy(a, given, sizeof(a));
	for (;;) {
		unsigned rings = doorbell_rings;
		long r = call(again->nr, a);

		if (!doorbell_only_rang(r, rings))
			return r;
		if (timeout)
			a[again->timeout] = (long)cpr__left(timeout, began, &room);
	}
}

/* A relative one says what is left in the program's memory, or in ours if it gave none. */
static long clock_sleep(const struct again *again, const long *given)
{
	long a[6] = {given[0], given[1], given[2], given[3]};
	struct timespec room;

	if (given[1] & TIMER_ABSTIME)
		return by_number_again(again, given);
	a[3] = a[3] ? a[3] : (long)&room;
	for (;;) {
		unsigned rings = doorbell_rings;
		long r = call(again->nr, a);

		if (!doorbell_only_rang(r, rings))
			return r;
		a[2] = a[3];
	}
}

/* Those that wait for signals must not wait for ours. */
static long interrupted(long nr, const long *given, bool *known)
{
	long a[6];
	sigset_t room;

	memcpy(a, given, sizeof(a));
	if (nr == SYS_rt_sigtimedwait || nr == SYS_rt_sigsuspend)
		if (a[nr == SYS_rt_sigtimedwait ? 3 : 1] == _NSIG / 8)
			a[0] = (long)cpr__spared((const sigset_t *)a[0], &room);
	for (size_t i = 0; i < countof(agains); i++)
		if (agains[i].nr == nr)
			return nr == SYS_clock_nanosleep ? clock_sleep(&agains[i], a) : by_number_again(&agains[i], a);
	*known = false;
	return 0;
}

static long descriptors(long nr, const long *a, bool *known)
{
	switch (nr) {
	case SYS_close:
		return cpr__close((int)a[0]);
	case SYS_close_range:
		return close_range((unsigned)a[0], (unsigned)a[1], (int)a[2]);
	case SYS_dup:
		return dup((int)a[0]);
	case SYS_dup3:
		return dup3((int)a[0], (int)a[1], (int)a[2]);
	case SYS_fcntl:
		return fcntl((int)a[0], (int)a[1], a[2]);
	case SYS_ioctl:
		return ioctl((int)a[0], (unsigned long)a[1], a[2]);
	case SYS_memfd_create:
		return memfd_create((const char *)a[0], (unsigned)a[1]);
	case SYS_openat:
		return cpr__openat((int)a[0], (const char *)a[1], (int)a[2], (mode_t)a[3]);
	case SYS_unlinkat:
		return unlinkat((int)a[0], (const char *)a[1], (int)a[2]);
	case SYS_renameat2:
		return renameat2((int)a[0], (const char *)a[1], (int)a[2], (const char *)a[3], (unsigned)a[4]);
	case SYS_execve:
		return cpr__execve((const char *)a[0], (char *const *)a[1], (char *const *)a[2]);
	case SYS_execveat:
		return execveat((int)a[0], (const char *)a[1], (char *const *)a[2], (char *const *)a[3], (int)a[4]);
	default:
		*known = false;
		return 0;
	}
}

/* Those that newer architectures do without. */
static long old_numbers(long nr, const long *a, bool *known)
{
	(void)a; /* where there are none */
	switch (nr) {
#ifdef SYS_open
	case SYS_open:
		return cpr__openat(AT_FDCWD, (const char *)a[0], (int)a[1], (mode_t)a[2]);
	case SYS_creat:
		return cpr__openat(AT_FDCWD, (const char *)a[0], O_CREAT | O_WRONLY | O_TRUNC, (mode_t)a[1]);
	case SYS_dup2:
		return dup2((int)a[0], (int)a[1]);
	case SYS_unlink:
		return unlink((const char *)a[0]);
	case SYS_rename:
		return rename((const char *)a[0], (const char *)a[1]);
	case SYS_renameat:
		return renameat((int)a[0], (const char *)a[1], (int)a[2], (const char *)a[3]);
	case SYS_epoll_create:
		return epoll_create((int)a[0]);
	case SYS_epoll_wait:
		return epoll_wait((int)a[0], (struct epoll_event *)a[1], (int)a[2], (int)a[3]);
	case SYS_poll:
		return poll((struct pollfd *)a[0], (nfds_t)a[1], (int)a[2]);
	case SYS_select:
		if (a[4] && !(readable((const void *)a[4], sizeof(struct timeval)) &&
			      writable_int((const int *)a[4]))) /* libc would look at it */
			break;
		return select((int)a[0], (fd_set *)a[1], (fd_set *)a[2], (fd_set *)a[3], (struct timeval *)a[4]);
	case SYS_pause:
		return pause();
#endif
	}
	*known = false;
	return 0;
}

#ifdef SYS_landlock_restrict_self
/* libc has no function for it. */
static long landlock(const long *a)
{
	long r = next_syscall(SYS_landlock_restrict_self, a[0], a[1], a[2], a[3], a[4], a[5]);

	if (!r)
		identity_landlocked();
	return r;
}
#endif
/* What is born past libc has no memory of a light start; what comes after a filter could not be made any more. */
static bool is_birth_or_sandbox(long nr, long first)
{
	switch (nr) {
#ifdef SYS_fork
	case SYS_fork:
#endif
	case SYS_seccomp:
#ifdef SYS_landlock_restrict_self
	case SYS_landlock_restrict_self:
#endif
	case SYS_unshare:
	case SYS_setns:
		return true;
	case SYS_clone:
		return !(first & CLONE_VM);
	case SYS_clone3:
		return true; /* its flags are in memory, which may not be there */
	case SYS_prctl:
		return first == PR_SET_SECCOMP;
	default:
		return false;
	}
}

static long by_number(long nr, const long *a)
{
	static long (*const families[])(long nr, const long *a, bool *known) = {transfers, sockets,     descriptors,
										waits,     interrupted, old_numbers};

	for (size_t i = 0; i < countof(families); i++) {
		bool known = true;
		long r = families[i](nr, a, &known);

		if (known)
			return r;
	}
	if (nr == SYS_rt_sigprocmask)
		return mask_by_number(a[0], (const void *)a[1], (void *)a[2], a[3]);
	if (is_birth_or_sandbox(nr, a[0]))
		begin_if_light();
	if (nr == SYS_rt_sigaction && doorbell_owns((int)a[0]))
		return cpr__sigaction_by_number(a);
#ifdef SYS_landlock_restrict_self
	if (nr == SYS_landlock_restrict_self)
		return landlock(a);
#endif
	if (cpr__is_of_credentials(nr))
		return cpr__without_task(nr, a);
	if (nr == SYS_prctl)
		return prctl((int)a[0], a[1], a[2], a[3], a[4]);
	if (nr == SYS_seccomp)
		return cpr__seccomp_by_number(a);
#ifdef SYS_io_uring_setup
	if (nr == SYS_io_uring_setup && denies_io_uring()) {
		errno = ENOSYS;
		return -1;
	}
#endif
	return next_syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

CPR_EXPORT long syscall(long nr, ...)
{
	long a[6];
	va_list args;

	va_start(args, nr);
	for (size_t i = 0; i < countof(a); i++)
		a[i] = va_arg(args, long);
	va_end(args);
	return by_number(nr, a);
}
