/* SPDX-License-Identifier: MIT */
/* Where a program waits for events: it is ready then; and the doorbell is not one of its events. */
#define _GNU_SOURCE
#include "restart/arrive.h"
#include "process/doorbell.h"
#include "drain/drain.h"
#include "drain/freeze.h"
#include "base/io.h"
#include "base/next.h"
#include "base/readable.h"
#include "fd/pending.h"
#include "fd/replay.h"
#include "fd/tagging.h"
#include "wrap/wrap.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>

static inline unsigned waiting(void)
{
	conn_waits++;
	drain_exit(); /* a handler may have jumped out of a read */
	if (unlikely(generation_is_settling))
		arrive_waiting();
	return doorbell_rings;
}

enum { BEHIND_MS = 40 };

/*
 * By the coarse clock, at a fifth of the price: it would be a twentieth of the whole call else. It is behind by a
 * tick of the kernel's, or by some where those are late; so a wait that a ring has cut, and no other, may last this
 * much longer than it was asked to, but not shorter.
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
		int64_t began_ = cpr__began(timeout);                                                                  \
		int r_ = (first);                                                                                      \
		while (doorbell_only_rang(r_, rings_)) {                                                               \
			struct timespec room_;                                                                         \
			const struct timespec *left_ = cpr__left(timeout, began_, &room_);                             \
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
	unsigned moves = freeze_moves;
	int saved_errno = errno, r;

	if (unlikely(tagging_hidden(fd))) {
		errno = EBADF;
		return -1;
	}
	if (unlikely(pending_any(fd)))
		pending_resolve(fd); /* before its registration is told: a drain must find it */
	if ((op == EPOLL_CTL_DEL || !event || readable(event, sizeof(*event))) && freeze_epoll(epfd, op, fd, event)) {
		errno = saved_errno;
		return 0;
	}
	r = next_epoll_ctl(epfd, op, fd, event);
	if (unlikely(freeze_moves != moves) && (!r || errno == EEXIST || errno == ENOENT) && op != EPOLL_CTL_DEL &&
	    tagging_knows(fd)) {
		freeze_register_anew(epfd, fd, *event);
		errno = saved_errno;
		r = 0;
	}
	if (!r && unlikely(tagging_orphans()))
		replay_note_epoll(epfd, op, fd, event);
	return r;
}

/* Again at each time: a ring may have begun the drain. */
#define ON(epfd, call) (drain_is_on() ? drain_waits(epfd) : (void)0, (call))

CPR_EXPORT int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
	return WAIT_MS(timeout, ON(epfd, next_epoll_wait(epfd, events, max, timeout)),
		       ON(epfd, next_epoll_wait(epfd, events, max, left_)));
}

CPR_EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout, const sigset_t *mask)
{
	sigset_t room;

	mask = cpr__spared(mask, &room);
	return WAIT_MS(timeout, ON(epfd, next_epoll_pwait(epfd, events, max, timeout, mask)),
		       ON(epfd, next_epoll_pwait(epfd, events, max, left_, mask)));
}

CPR_EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
			    const sigset_t *mask)
{
	sigset_t room;

	mask = cpr__spared(mask, &room);
	return WAIT_SPEC(timeout, ON(epfd, next_epoll_pwait2(epfd, events, max, timeout, mask)),
			 ON(epfd, next_epoll_pwait2(epfd, events, max, left_, mask)));
}

/*
 * During a drain a frozen connection is never ready: the program would spin until the others are done. The kernel
 * refuses what cannot be read.
 */
static bool drains(const struct pollfd *fds, nfds_t n)
{
	return drain_is_on() && n <= INT32_MAX && readable(fds, n * sizeof(*fds));
}

static bool is_set(int n, const fd_set *set)
{
	return !set || readable(set, ((size_t)n + 63) / 64 * 8);
}

static bool drains_sets(int n, const fd_set *r, const fd_set *w, const fd_set *x)
{
	return drain_is_on() && n >= 0 && is_set(n, r) && is_set(n, w) && is_set(n, x);
}

/* A time that the kernel would accept. */
static bool is_time(const struct timespec *timeout)
{
	return !timeout || (readable(timeout, sizeof(*timeout)) && timeout->tv_sec >= 0 && timeout->tv_nsec >= 0 &&
			    timeout->tv_nsec < 1000000000);
}

static int polled(struct pollfd *fds, nfds_t n, int timeout)
{
	return drains(fds, n) ? drain_poll(fds, n, timeout, NULL) : next_poll(fds, n, timeout);
}

static int select_drained(int n, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout)
{
	struct timeval time = timeout ? *timeout : (struct timeval){0};
	int done = drain_select(n, r, w, x, timeout ? &time : NULL, NULL);

	if (timeout &&
	    writable_int((const int *)timeout)) /* it may be a constant: the kernel goes on without a word, too */
		*timeout = time;
	return done;
}

static int selected(int n, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout)
{
	return drains_sets(n, r, w, x) && (!timeout || readable(timeout, sizeof(*timeout)))
		       ? select_drained(n, r, w, x, timeout)
		       : next_select(n, r, w, x, timeout);
}

static int ms_of(const struct timespec *timeout)
{
	int64_t ms = timeout ? timeout->tv_sec * INT64_C(1000) + (timeout->tv_nsec + 999999) / 1000000 : -1;

	return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

static int ppolled(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	return drains(fds, n) && is_time(timeout) ? drain_poll(fds, n, ms_of(timeout), mask)
						  : next_ppoll(fds, n, timeout, mask);
}

static int pselect_drained(int n, fd_set *r, fd_set *w, fd_set *x, const struct timespec *timeout, const sigset_t *mask)
{
	struct timeval time =
		timeout ? (struct timeval){timeout->tv_sec, timeout->tv_nsec / 1000} : (struct timeval){0};

	return drain_select(n, r, w, x, timeout ? &time : NULL, mask);
}

static int pselected(int n, fd_set *r, fd_set *w, fd_set *x, const struct timespec *timeout, const sigset_t *mask)
{
	return drains_sets(n, r, w, x) && is_time(timeout) ? pselect_drained(n, r, w, x, timeout, mask)
							   : next_pselect(n, r, w, x, timeout, mask);
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
	return WAIT_MS(timeout, drains(fds, n) ? polled(fds, n, timeout) : next___poll_chk(fds, n, timeout, size),
		       polled(fds, n, left_));
}

CPR_EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	sigset_t room;

	mask = cpr__spared(mask, &room);
	return WAIT_SPEC(timeout, ppolled(fds, n, timeout, mask), ppolled(fds, n, left_, mask));
}

CPR_EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask,
			   size_t size)
{
	sigset_t room;

	mask = cpr__spared(mask, &room);
	return WAIT_SPEC(timeout,
			 drains(fds, n) ? ppolled(fds, n, timeout, mask)
					: next___ppoll_chk(fds, n, timeout, mask, size),
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

/* ---- by syscall(2): the kernel writes the rest into the timeout, so that the call can be repeated as it was ---- */

/* The kernel's form of pselect's last argument. */
struct mask_and_size {
	const sigset_t *mask;
	size_t size;
};

static void put_left(struct timespec *timeout, int64_t began)
{
	struct timespec room;

	if (timeout && writable_int((const int *)timeout))
		*timeout = *cpr__left(timeout, began, &room);
}

static long poll_once(const long *a, const sigset_t *mask)
{
	struct timespec *timeout = (struct timespec *)a[2];
	struct pollfd *fds = (struct pollfd *)a[0];
	int64_t began;
	int r;

	if (likely(!drains(fds, (nfds_t)a[1]) || !is_time(timeout)))
		return next_sys(SYS_ppoll, fds, a[1], timeout, mask, a[4]);
	began = cpr__began(timeout);
	r = drain_poll(fds, (nfds_t)a[1], ms_of(timeout), mask);
	put_left(timeout, began);
	return r;
}

long cpr__poll_by_number(const long *a)
{
	const sigset_t *mask = (const sigset_t *)a[3];
	unsigned rings;
	sigset_t room;
	long r;

	if (a[4] == _NSIG / 8)
		mask = cpr__spared(mask, &room);
	do {
		rings = waiting();
		r = poll_once(a, mask);
	} while (doorbell_only_rang(r, rings));
	return r;
}

static long select_once(const long *a, const struct mask_and_size *last)
{
	struct timespec *timeout = (struct timespec *)a[4];
	fd_set *r = (fd_set *)a[1], *w = (fd_set *)a[2], *x = (fd_set *)a[3];
	int64_t began;
	int done;

	if (likely(!drains_sets((int)a[0], r, w, x) || !is_time(timeout)))
		return next_sys(SYS_pselect6, a[0], r, w, x, timeout, last);
	began = cpr__began(timeout);
	done = pselect_drained((int)a[0], r, w, x, timeout, last ? last->mask : NULL);
	put_left(timeout, began);
	return done;
}

long cpr__select_by_number(const long *a)
{
	const struct mask_and_size *last = (const struct mask_and_size *)a[5];
	struct mask_and_size spared;
	unsigned rings;
	sigset_t room;
	long r;

	if (last && (!readable(last, sizeof(*last)) ||
		     (last->mask && (last->size != _NSIG / 8 || !readable(last->mask, last->size)))))
		return next_sys(SYS_pselect6, a[0], a[1], a[2], a[3], a[4], last); /* the kernel's to refuse */
	if (last) {
		spared = (struct mask_and_size){cpr__spared(last->mask, &room), last->size};
		last = &spared;
	}
	do {
		rings = waiting();
		r = select_once(a, last);
	} while (doorbell_only_rang(r, rings));
	return r;
}
