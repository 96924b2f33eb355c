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
#include "process/guard.h"
#include "process/sandbox.h"
#include "wrap/wrap.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>

static inline void waiting(void)
{
	conn_waits++;
	drain_exit(); /* a handler may have jumped out of a read */
}

/*
 * A program that gets a signal sets a flag in its handler, and checks the flag when its wait returns EINTR. A signal
 * before the wait has begun interrupts no wait. In a program without a mask that window is some nanoseconds. A check
 * for a drain takes much longer, on a busy machine many milliseconds. So a wait with such a check blocks all signals
 * before it, and the kernel's call admits them again: ppoll() and its kin.
 */
struct signals_held {
	bool looks; /* something is looked at before this wait, and perhaps all through it */
	bool on;    /* not in a sandbox, whose filter may not allow these calls */
	sigset_t before;
};

/* Not libc's own: a thread that is cancelled waits behind its call for the signal of that. */
static void hold_signals(struct signals_held *held)
{
	sigset_t all;

	held->looks = true;
	if (held->on || sandboxed())
		return;
	sigfillset(&all); /* libc's are not in it */
	next_sys(SYS_rt_sigprocmask, SIG_BLOCK, &all, &held->before, _NSIG / 8);
	held->on = true;
}

static inline void wait_begins(struct signals_held *held)
{
	held->looks = held->on = false;
	if (unlikely(generation_is_settling) || unlikely(drain_is_on()))
		hold_signals(held);
	waiting();
}

static void wait_goes_on(struct signals_held *held)
{
	hold_signals(held);
	waiting();
}

/* `awaited`: an enum awaited, which is asked for only where it matters. */
#define AWAITS(awaited)                                                                                                \
	({                                                                                                             \
		if (unlikely(generation_is_settling))                                                                  \
			arrive_waiting(arrive_asks() ? (awaited) : AWAITED_WORK);                                      \
		doorbell_rings;                                                                                        \
	})

static inline void wait_ends(const struct signals_held *held)
{
	if (unlikely(generation_is_settling))
		arrive_waited();
	if (unlikely(held->on))
		guard_unblock(&held->before);
}

enum { BEHIND_MS = 40 };

/*
 * Uses the coarse clock, at a fifth of the price: the fine one would cost a twentieth of the whole call. It is late by
 * a tick of the kernel, or by some. So a wait that a ring interrupted may last that much longer than asked for, but not
 * shorter.
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

/*
 * `plain` is the call with the program's own arguments. `held` is the call that admits signals by a mask, with `left_`
 * as its timeout. The time is computed only after a ring.
 */
#define WAIT_MS(awaited, timeout, plain, held)                                                                         \
	({                                                                                                             \
		struct signals_held held_;                                                                             \
		unsigned rings_;                                                                                       \
		int64_t deadline_ = (timeout) > 0 ? deadline_in(timeout) : (timeout);                                  \
		int left_ = (timeout), r_;                                                                             \
		wait_begins(&held_);                                                                                   \
		rings_ = AWAITS(awaited);                                                                              \
		r_ = likely(!held_.looks) ? (plain) : (held);                                                          \
		while (doorbell_only_rang(r_, rings_)) {                                                               \
			wait_goes_on(&held_);                                                                          \
			rings_ = AWAITS(awaited);                                                                      \
			left_ = (timeout) > 0 ? ms_until(deadline_) : (timeout);                                       \
			r_ = (held);                                                                                   \
		}                                                                                                      \
		wait_ends(&held_);                                                                                     \
		r_;                                                                                                    \
	})

#define WAIT_SPEC(awaited, timeout, plain, held)                                                                       \
	({                                                                                                             \
		struct signals_held held_;                                                                             \
		unsigned rings_;                                                                                       \
		int64_t began_ = cpr__began(timeout);                                                                  \
		struct timespec room_;                                                                                 \
		const struct timespec *left_ = (timeout);                                                              \
		int r_;                                                                                                \
		wait_begins(&held_);                                                                                   \
		rings_ = AWAITS(awaited);                                                                              \
		r_ = likely(!held_.looks) ? (plain) : (held);                                                          \
		while (doorbell_only_rang(r_, rings_)) {                                                               \
			wait_goes_on(&held_);                                                                          \
			rings_ = AWAITS(awaited);                                                                      \
			left_ = cpr__left(timeout, began_, &room_);                                                    \
			r_ = (held);                                                                                   \
		}                                                                                                      \
		wait_ends(&held_);                                                                                     \
		r_;                                                                                                    \
	})

#define HELD_MASK (held_.on ? &held_.before : NULL)

/* The program's own mask, if it gave one. */
#define LETS_IN(mask) ((mask) ? (mask) : HELD_MASK)

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
		pending_resolve(fd); /* before its registration is noted: a drain must find it */
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
	return WAIT_MS(awaited_by_epoll(epfd, timeout >= 0), timeout,
		       next_epoll_wait(epfd, events, max, timeout),
		       ON(epfd, held_.on ? next_epoll_pwait(epfd, events, max, left_, &held_.before)
					 : next_epoll_wait(epfd, events, max, left_)));
}

CPR_EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout, const sigset_t *mask)
{
	sigset_t room;

	mask = cpr__spared(mask, &room);
	return WAIT_MS(awaited_by_epoll(epfd, timeout >= 0), timeout,
		       next_epoll_pwait(epfd, events, max, timeout, mask),
		       ON(epfd, next_epoll_pwait(epfd, events, max, left_, LETS_IN(mask))));
}

CPR_EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
			    const sigset_t *mask)
{
	sigset_t room;

	mask = cpr__spared(mask, &room);
	return WAIT_SPEC(awaited_by_epoll(epfd, timeout), timeout, next_epoll_pwait2(epfd, events, max, timeout, mask),
			 ON(epfd, next_epoll_pwait2(epfd, events, max, left_, LETS_IN(mask))));
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

static bool are_sets(int n, const fd_set *r, const fd_set *w, const fd_set *x)
{
	return n >= 0 && is_set(n, r) && is_set(n, w) && is_set(n, x);
}

static enum awaited selects(int n, const fd_set *r, const fd_set *w, const fd_set *x, bool limited)
{
	return are_sets(n, r, w, x) ? awaited_by_select(n, r, w, x, limited) : AWAITED_WORK;
}

static bool drains_sets(int n, const fd_set *r, const fd_set *w, const fd_set *x)
{
	return drain_is_on() && are_sets(n, r, w, x);
}

/* A time that the kernel would accept. */
static bool is_time(const struct timespec *timeout)
{
	return !timeout || (readable(timeout, sizeof(*timeout)) && timeout->tv_sec >= 0 && timeout->tv_nsec >= 0 &&
			    timeout->tv_nsec < 1000000000);
}

static int ms_of(const struct timespec *timeout)
{
	int64_t ms = timeout ? timeout->tv_sec * INT64_C(1000) + (timeout->tv_nsec + 999999) / 1000000 : -1;

	return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

static int polled(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	return drains(fds, n) && is_time(timeout) ? drain_poll(fds, n, ms_of(timeout), mask)
						  : next_ppoll(fds, n, timeout, mask);
}

static int polled_ms(struct pollfd *fds, nfds_t n, int timeout, const sigset_t *mask)
{
	struct timespec time = {timeout / 1000, timeout % 1000 * 1000000L};

	if (!mask && !drains(fds, n))
		return next_poll(fds, n, timeout);
	return polled(fds, n, timeout < 0 ? NULL : &time, mask);
}

/*
 * select() leaves in `timeout` what is left of it, and its sets as they were, when it says EINTR. Where the kernel
 * cannot write the time, as in a constant, it goes on without a word.
 */
static int selected(int n, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout, const sigset_t *mask)
{
	struct timeval time;
	int done;

	if ((!mask && !drain_is_on()) || !are_sets(n, r, w, x) || (timeout && !readable(timeout, sizeof(*timeout))))
		return next_select(n, r, w, x, timeout); /* nothing to look at; or the kernel's to refuse */
	time = timeout ? *timeout : (struct timeval){0};
	done = drain_select(n, r, w, x, timeout ? &time : NULL, mask);
	if (timeout && writable_int((const int *)timeout))
		*timeout = time;
	return done;
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
	return WAIT_MS(awaited_by_poll(fds, n, timeout >= 0), timeout, next_poll(fds, n, timeout),
		       polled_ms(fds, n, left_, HELD_MASK));
}

CPR_EXPORT int __poll(struct pollfd *fds, nfds_t n, int timeout)
{
	return WAIT_MS(awaited_by_poll(fds, n, timeout >= 0), timeout, next_poll(fds, n, timeout),
		       polled_ms(fds, n, left_, HELD_MASK));
}

/* Else libc ends the program: it would write beyond the array. */
static bool fits(nfds_t n, size_t size)
{
	return n <= size / sizeof(struct pollfd);
}

CPR_EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
	return WAIT_MS(awaited_by_poll(fds, n, timeout >= 0), timeout, next___poll_chk(fds, n, timeout, size),
		       fits(n, size) ? polled_ms(fds, n, left_, HELD_MASK)
				     : next___poll_chk(fds, n, timeout, size));
}

CPR_EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	sigset_t room;

	mask = cpr__spared(mask, &room);
	return WAIT_SPEC(awaited_by_poll(fds, n, timeout), timeout, next_ppoll(fds, n, timeout, mask),
			 polled(fds, n, left_, LETS_IN(mask)));
}

CPR_EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask,
			   size_t size)
{
	sigset_t room;

	mask = cpr__spared(mask, &room);
	return WAIT_SPEC(awaited_by_poll(fds, n, timeout), timeout, next___ppoll_chk(fds, n, timeout, mask, size),
			 fits(n, size) ? polled(fds, n, left_, LETS_IN(mask))
				       : next___ppoll_chk(fds, n, timeout, mask, size));
}

CPR_EXPORT int select(int n, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout)
{
	struct signals_held held_;
	unsigned rings;
	int done;

	wait_begins(&held_);
	rings = AWAITS(selects(n, r, w, x, timeout));
	done = likely(!held_.looks) ? next_select(n, r, w, x, timeout) : selected(n, r, w, x, timeout, HELD_MASK);
	while (doorbell_only_rang(done, rings)) {
		wait_goes_on(&held_);
		rings = AWAITS(selects(n, r, w, x, timeout));
		done = selected(n, r, w, x, timeout, HELD_MASK);
	}
	wait_ends(&held_);
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
	return WAIT_SPEC(selects(n, r, w, x, timeout), timeout, next_pselect(n, r, w, x, timeout, mask),
			 pselected(n, r, w, x, left_, LETS_IN(mask)));
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

static long poll_held(const long *a, const sigset_t *mask)
{
	struct timespec *timeout = (struct timespec *)a[2];
	struct pollfd *fds = (struct pollfd *)a[0];
	int64_t began;
	int r;

	if (likely(!drains(fds, (nfds_t)a[1]) || !is_time(timeout)))
		return next_sys(SYS_ppoll, fds, a[1], timeout, mask, a[3] ? a[4] : _NSIG / 8);
	began = cpr__began(timeout);
	r = drain_poll(fds, (nfds_t)a[1], ms_of(timeout), mask);
	put_left(timeout, began);
	return r;
}

long cpr__poll_by_number(const long *a)
{
	const sigset_t *mask = (const sigset_t *)a[3];
	struct signals_held held_;
	unsigned rings;
	sigset_t room;
	long r;

	if (a[4] == _NSIG / 8)
		mask = cpr__spared(mask, &room);
	wait_begins(&held_);
	rings = AWAITS(awaited_by_poll((struct pollfd *)a[0], (nfds_t)a[1], a[2]));
	r = likely(!held_.looks) ? next_sys(SYS_ppoll, a[0], a[1], a[2], mask, a[4]) : poll_held(a, LETS_IN(mask));
	while (doorbell_only_rang(r, rings)) {
		wait_goes_on(&held_);
		rings = AWAITS(awaited_by_poll((struct pollfd *)a[0], (nfds_t)a[1], a[2]));
		r = poll_held(a, LETS_IN(mask));
	}
	wait_ends(&held_);
	return r;
}

static long select_held(const long *a, const sigset_t *mask)
{
	const struct mask_and_size last = {mask, _NSIG / 8};
	struct timespec *timeout = (struct timespec *)a[4];
	fd_set *r = (fd_set *)a[1], *w = (fd_set *)a[2], *x = (fd_set *)a[3];
	int64_t began;
	int done;

	if (likely(!drains_sets((int)a[0], r, w, x) || !is_time(timeout)))
		return next_sys(SYS_pselect6, a[0], r, w, x, timeout, &last);
	began = cpr__began(timeout);
	done = pselect_drained((int)a[0], r, w, x, timeout, mask);
	put_left(timeout, began);
	return done;
}

long cpr__select_by_number(const long *a)
{
	const struct mask_and_size *last = (const struct mask_and_size *)a[5];
	struct mask_and_size spared = {NULL, _NSIG / 8};
	struct signals_held held_;
	unsigned rings;
	sigset_t room;
	long r;

	if (last && (!readable(last, sizeof(*last)) ||
		     (last->mask && (last->size != _NSIG / 8 || !readable(last->mask, last->size)))))
		return next_sys(SYS_pselect6, a[0], a[1], a[2], a[3], a[4], last); /* the kernel's to refuse */
	if (last)
		spared.mask = cpr__spared(last->mask, &room);
	wait_begins(&held_);
	rings = AWAITS(selects((int)a[0], (fd_set *)a[1], (fd_set *)a[2], (fd_set *)a[3], a[4]));
	r = likely(!held_.looks) ? next_sys(SYS_pselect6, a[0], a[1], a[2], a[3], a[4], &spared)
			      : select_held(a, LETS_IN(spared.mask));
	while (doorbell_only_rang(r, rings)) {
		wait_goes_on(&held_);
		rings = AWAITS(selects((int)a[0], (fd_set *)a[1], (fd_set *)a[2], (fd_set *)a[3], a[4]));
		r = select_held(a, LETS_IN(spared.mask));
	}
	wait_ends(&held_);
	return r;
}
