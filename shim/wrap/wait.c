/* SPDX-License-Identifier: MIT */
/* Where a program waits for events: it is ready then; and the doorbell is not one of its events. */
#define _GNU_SOURCE
#include "restart/arrive.h"
#include "restart/doorbell.h"
#include "drain/drain.h"
#include "drain/freeze.h"
#include "base/io.h"
#include "base/next.h"
#include "fd/pending.h"
#include "fd/replay.h"
#include "fd/tagging.h"
#include "wrap/wrap.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

static inline unsigned waiting(void)
{
	conn_waits++;
	drain_exit(); /* a handler may have jumped out of a read */
	if (unlikely(arrive_watch))
		arrive_waiting();
	return doorbell_rings;
}

enum { BEHIND_MS = 40 };

/*
 * By the coarse clock, at a fifth of the price: it would be a twentieth of the whole call else. It is behind by a tick of the kernel's, or by some where those are
 * late; so a wait that a ring has cut, and no other, may last this much longer than it was asked to, but not shorter.
 */
static int64_t deadline_in(int ms)
{
	struct timespec now;

	if (ms < 0)
		return -1;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec + (ms + BEHIND_MS) * INT64_C(1000000);
}

static int ms_until(int64_t deadline)
{
	int64_t left = deadline - io_now();

	return deadline < 0 ? -1 : left <= 0 ? 0 : (int)((left + 999999) / 1000000);
}

/* The first call gets the program's own arguments; only after a ring is there a time to reckon. */
#define WAIT_MS(timeout, first, again)                                                                                 \
	({                                                                                                             \
		unsigned rings_ = waiting();                                                                           \
		int64_t deadline_ = (timeout) > 0 ? deadline_in(timeout) : (timeout);                                  \
		int r_ = (first);                                                                                      \
		while (doorbell_only_rang(r_, rings_)) {                                                               \
			int left_ = (timeout) > 0 ? ms_until(deadline_) : (timeout);                                   \
			rings_ = waiting();                                                                            \
			r_ = (again);                                                                                  \
		}                                                                                                      \
		r_;                                                                                                    \
	})

#define WAIT_SPEC(timeout, first, again)                                                                               \
	({                                                                                                             \
		unsigned rings_ = waiting();                                                                           \
		int64_t deadline_ = cpr__deadline_of(timeout);                                                         \
		int r_ = (first);                                                                                      \
		while (doorbell_only_rang(r_, rings_)) {                                                               \
			struct timespec room_;                                                                         \
			const struct timespec *left_ = cpr__left_until(deadline_, &room_);                             \
			rings_ = waiting();                                                                            \
			r_ = (again);                                                                                  \
		}                                                                                                      \
		r_;                                                                                                    \
	})

CPR_EXPORT int epoll_create(int size)
{
	int fd = next_epoll_create(size);

	if (fd >= 0)
		tagging_fresh(fd);
	return fd;
}

CPR_EXPORT int epoll_create1(int flags)
{
	int fd = next_epoll_create1(flags);

	if (fd >= 0)
		tagging_fresh(fd);
	return fd;
}

CPR_EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	int saved_errno = errno, r;

	if (unlikely(tagging_hidden(fd))) {
		errno = EBADF;
		return -1;
	}
	if (unlikely(pending_any(fd)))
		pending_resolve(fd); /* before its registration is told: a drain must find it */
	if (freeze_epoll(epfd, op, fd, event)) {
		errno = saved_errno;
		return 0;
	}
	r = next_epoll_ctl(epfd, op, fd, event);
	if (!r && unlikely(tagging_orphans()))
		replay_note_epoll(epfd, op, fd, event);
	return r;
}

/* Again at each time: a ring may have begun the drain. */
#define ON(epfd, call) (drain_is_on() ? drain_waits(epfd) : (void)0, (call))

CPR_EXPORT int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
	return WAIT_MS(timeout, ON(epfd, next_epoll_wait(epfd, events, max, timeout)), ON(epfd, next_epoll_wait(epfd, events, max, left_)));
}

CPR_EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout, const sigset_t *mask)
{
	sigset_t room;

	mask = cpr__spared(mask, &room);
	return WAIT_MS(timeout, ON(epfd, next_epoll_pwait(epfd, events, max, timeout, mask)), ON(epfd, next_epoll_pwait(epfd, events, max, left_, mask)));
}

CPR_EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int max, const struct timespec *timeout, const sigset_t *mask)
{
	sigset_t room;

	mask = cpr__spared(mask, &room);
	return WAIT_SPEC(timeout, ON(epfd, next_epoll_pwait2(epfd, events, max, timeout, mask)), ON(epfd, next_epoll_pwait2(epfd, events, max, left_, mask)));
}

/* During a drain, what is frozen is not ready, or the program would run in circles until its other connections are done. */
static int polled(struct pollfd *fds, nfds_t n, int timeout)
{
	return drain_is_on() ? drain_poll(fds, n, timeout, NULL) : next_poll(fds, n, timeout);
}

static int selected(int n, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout)
{
	return drain_is_on() ? drain_select(n, r, w, x, timeout, NULL) : next_select(n, r, w, x, timeout);
}

static int ppolled(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	int64_t ms = timeout ? timeout->tv_sec * INT64_C(1000) + (timeout->tv_nsec + 999999) / 1000000 : -1;

	return drain_is_on() ? drain_poll(fds, n, ms > INT32_MAX ? INT32_MAX : (int)ms, mask) : next_ppoll(fds, n, timeout, mask);
}

static int pselected(int n, fd_set *r, fd_set *w, fd_set *x, const struct timespec *timeout, const sigset_t *mask)
{
	struct timeval time = timeout ? (struct timeval){timeout->tv_sec, timeout->tv_nsec / 1000} : (struct timeval){0};

	return drain_is_on() ? drain_select(n, r, w, x, timeout ? &time : NULL, mask) : next_pselect(n, r, w, x, timeout, mask);
}

CPR_EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	return WAIT_MS(timeout, polled(fds, n, timeout), polled(fds, n, left_));
}

CPR_EXPORT int __poll(struct pollfd *fds, nfds_t n, int timeout)
{
	return WAIT_MS(timeout, polled(fds, n, timeout), polled(fds, n, left_));
}

CPR_EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
	return WAIT_MS(timeout, drain_is_on() ? polled(fds, n, timeout) : next___poll_chk(fds, n, timeout, size), polled(fds, n, left_));
}

CPR_EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	sigset_t room;

	mask = cpr__spared(mask, &room);
	return WAIT_SPEC(timeout, ppolled(fds, n, timeout, mask), ppolled(fds, n, left_, mask));
}

CPR_EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t size)
{
	sigset_t room;

	mask = cpr__spared(mask, &room);
	return WAIT_SPEC(timeout, drain_is_on() ? ppolled(fds, n, timeout, mask) : next___ppoll_chk(fds, n, timeout, mask, size),
			 ppolled(fds, n, left_, mask));
}

/* select leaves in `timeout` what is left of it, and its sets as they were, when it says EINTR. */
CPR_EXPORT int select(int n, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout)
{
	unsigned rings = waiting();
	int done = selected(n, r, w, x, timeout);

	while (doorbell_only_rang(done, rings)) {
		rings = waiting();
		done = selected(n, r, w, x, timeout);
	}
	return done;
}

CPR_EXPORT int __select(int n, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout)
{
	return select(n, r, w, x, timeout);
}

CPR_EXPORT int pselect(int n, fd_set *r, fd_set *w, fd_set *x, const struct timespec *timeout, const sigset_t *mask)
{
	sigset_t room;

	mask = cpr__spared(mask, &room);
	return WAIT_SPEC(timeout, pselected(n, r, w, x, timeout, mask), pselected(n, r, w, x, left_, mask));
}
