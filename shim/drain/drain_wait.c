/* SPDX-License-Identifier: MIT */
/*
 * A drain, for programs that wait for events. A thread that waits for a request has answered the last one. Frozen
 * descriptors are never ready.
 */
#define _GNU_SOURCE
#include "drain/drain.h"

#include "drain/freeze.h"
#include "process/guard.h"
#include "base/full.h"
#include "base/io.h"
#include "base/next.h"
#include "base/pool.h"
#include "fd/tagging.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>

enum {
	WAITERS = 256, /* epoll sets that are waited on; on others waiting says nothing */
	PASSING_SLICE_MS = 500, /* the same where that goes on for hours */
	SLICE_MS = 10, /* how long poll and select sleep at a time during a drain */
};

/*
 * Threads that wait on an epoll set during a drain: one, or several, and then it is not known which of them serves
 * what.
 */
static cpr_large struct waiter {
	_Atomic int epfd; /* + 1; 0: free */
	_Atomic int tid;  /* -1: several */
} waiters[WAITERS];

static bool waits_alone(int epfd)
{
	int tid = (int)next_sys(SYS_gettid);

	for (int i = 0; i < WAITERS; i++) {
		int there = 0, none = 0;

		if (!atomic_compare_exchange_strong(&waiters[i].epfd, &there, epfd + 1) && there != epfd + 1)
			continue;
		if (!atomic_compare_exchange_strong(&waiters[i].tid, &none, tid) && none != tid)
			atomic_store(&waiters[i].tid, -1);
		return atomic_load(&waiters[i].tid) == tid;
	}
	full_note(FULL_WAITED_SETS, WAITERS);
	return false;
}

void drain_forget_waiters(void)
{
	for (int i = 0; i < WAITERS; i++) {
		atomic_store(&waiters[i].tid, 0);
		atomic_store(&waiters[i].epfd, 0);
	}
}

/* It waits for input on it, and has nothing to write. */
static void awaits(int fd, struct conn *c)
{
	conn_awaits(c);
	if (!(c->flags & CONN_FROZEN) && conn_at_boundary(c, io_now()))
		freeze_conn(fd, c, CONN_IN_PROGRESS, active_calls_self);
}

/*
 * Does it wait for input only? Edge-triggered programs often register both directions once, and get EPOLLOUT whether
 * they have something to write or not: that proves nothing.
 */
static bool waits_for_input(const struct conn *c)
{
	return c->events & EPOLLIN && (!(c->events & EPOLLOUT) || c->events & EPOLLET);
}

/*
 * In a handover, connections are passed on for hours, and only HTTP framing counts, unless a rule says that a protocol
 * has no state. A client of such a protocol that asks without a pause is at a boundary only here: without this it was
 * never passed on, and cut in the end.
 */
static bool may_tell(int epfd)
{
	return (!atomic_load(&drain_passes) || rules_have(&cpr__settings.rules, RULE_CARRY)) && waits_alone(epfd);
}

void drain_waits(int epfd)
{
	int saved_errno = errno;

	if (!may_tell(epfd))
		return;
	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);

		if (c && c->flags & CONN_POLLED && c->epfd == epfd && waits_for_input(c))
			awaits(fd, c);
	}
	errno = saved_errno;
}

static bool is_frozen(int fd)
{
	struct conn *c = conn_at(fd);
	struct entry *e;

	if (c && c->flags & CONN_EXEMPT)
		return false;
	if (atomic_load(&drain_passes))
		return c && c->flags & CONN_FROZEN;
	if (c) /* one with a request in it is served once more: see freeze() */
		return c->flags & CONN_FROZEN || (conn_at_boundary(c, io_now()) && !conn_has_unread(fd));
	e = tagging_knows(fd) ? table_by_fd(cpr__table, fd) : NULL;
	return e && e->kind == ENTRY_STREAM && e->flags & ENTRY_LISTENING;
}

/* ms of this slice; less when the program's own time ends before */
static int slice(int64_t deadline)
{
	int most = atomic_load(&drain_passes) ? PASSING_SLICE_MS : SLICE_MS;
	int64_t left = deadline < 0 ? most : (deadline - io_now() + 999999) / 1000000;

	return left < 0 ? 0 : left < most ? (int)left : most;
}

static int poll_ms(struct pollfd *fds, nfds_t n, int ms, const sigset_t *mask)
{
	struct timespec time = {ms / 1000, ms % 1000 * 1000000L};

	return next_ppoll(fds, n, ms < 0 ? NULL : &time, mask);
}

int drain_poll(struct pollfd *fds, nfds_t n, int timeout_ms, const sigset_t *mask)
{
	int64_t deadline = timeout_ms < 0 ? -1 : io_now() + timeout_ms * INT64_C(1000000);
	size_t size = (n + 1) * sizeof(*fds);
	struct pollfd *some = pool_map(size);
	int r = 0;

	if (!some)
		return poll_ms(fds, n, timeout_ms, mask);
	for (nfds_t i = 0; i < n; i++) {
		struct conn *c = (fds[i].events & (POLLIN | POLLOUT)) == POLLIN ? conn_at(fds[i].fd) : NULL;

		if (c)
			awaits(fds[i].fd, c);
	}
	do {
		if (n) /* else fds may be NULL: a poll(NULL, 0, ms) that only sleeps */
			memcpy(some, fds, n * sizeof(*fds));
		for (nfds_t i = 0; i < n; i++)
			if (is_frozen(some[i].fd))
				some[i].fd = -1; /* poll passes over those */
		r = poll_ms(some, n, slice(deadline), mask);
		for (nfds_t i = 0; r > 0 && i < n; i++)
			fds[i].revents = some[i].fd < 0 ? 0 : some[i].revents;
	} while (r == 0 && atomic_load(&drain_active) && (deadline < 0 || io_now() < deadline));
	pool_unmap(some, size);
	if (r == 0 && !atomic_load(&drain_active) && (deadline < 0 || io_now() < deadline))
		return poll_ms(fds, n, deadline < 0 ? -1 : (int)((deadline - io_now()) / 1000000) + 1, mask);
	for (nfds_t i = 0; r == 0 && i < n; i++)
		fds[i].revents = 0;
	return r;
}

static void filter(int n, const fd_set *from, fd_set *to)
{
	size_t words = ((size_t)n + 8 * sizeof(long) - 1) / (8 * sizeof(long));

	memcpy(to, from, words * sizeof(long));
	for (int fd = 0; fd < n; fd++)
		if (FD_ISSET(fd, to) && is_frozen(fd))
			FD_CLR(fd, to);
}

static void note_awaited(int n, const fd_set *r, const fd_set *w)
{
	for (int fd = 0; fd < n; fd++) {
		struct conn *c = FD_ISSET(fd, r) && !(w && FD_ISSET(fd, w)) ? conn_at(fd) : NULL;

		if (c)
			awaits(fd, c);
	}
}

static int select_for(int n, fd_set *sets[3], int64_t ns, const sigset_t *mask)
{
	struct timespec time = {ns / 1000000000, ns % 1000000000};

	return next_pselect(n, sets[0], sets[1], sets[2], ns < 0 ? NULL : &time, mask);
}

int drain_select(int n, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout, const sigset_t *mask)
{
	int64_t deadline = timeout ? io_now() + timeout->tv_sec * INT64_C(1000000000) + timeout->tv_usec * 1000 : -1,
		left;
	fd_set from[3], *sets[3] = {r, w, x};
	int done = 0;

	if (n > FD_SETSIZE) /* more than a set of libc's own holds */
		return select_for(n, sets, deadline < 0 ? -1 : deadline - io_now(), mask);
	for (int i = 0; i < 3; i++)
		if (sets[i])
			from[i] = *sets[i];
	if (r)
		note_awaited(n, r, w);
	while (!done && atomic_load(&drain_active) && (deadline < 0 || io_now() < deadline)) {
		for (int i = 0; i < 3; i++)
			if (sets[i])
				filter(n, &from[i], sets[i]);
		done = select_for(n, sets, slice(deadline) * INT64_C(1000000), mask);
	}
	left = deadline < 0 ? -1 : deadline > io_now() ? deadline - io_now() : 0;
	for (int i = 0; done <= 0 && i < 3; i++)
		if (sets[i])
			*sets[i] = from[i]; /* as the kernel leaves them at an error, and as it must find them */
	if (!done && !atomic_load(&drain_active))
		done = select_for(n, sets, left, mask);
	else if (!done)
		for (int i = 0; i < 3; i++)
			if (sets[i])
				memset(sets[i], 0,
				       ((size_t)n + 8 * sizeof(long) - 1) / (8 * sizeof(long)) * sizeof(long));
	if (timeout) {
		left = deadline > io_now() ? deadline - io_now() : 0;
		*timeout = (struct timeval){left / 1000000000, left % 1000000000 / 1000};
	}
	return done;
}
