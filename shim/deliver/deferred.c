/* SPDX-License-Identifier: MIT */
/* What is held until its client has something to say. */
#define _GNU_SOURCE
#include "deliver/deferred.h"

#include "base/guarded.h"
#include "process/guard.h"
#include "base/log.h"
#include "base/next.h"
#include "base/pool.h"
#include "base/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void set(int fd, int what, int to)
{
	next_fcntl(fd, what, (void *)(long)to);
}

static _Atomic unsigned missed;

static void ring_was_lost(int sig)
{
	(void)sig;
	atomic_fetch_add(&missed, 1);
}

/*
 * If the queue of signals is full (RLIMIT_SIGPENDING, for all processes of a user together), the kernel sends SIGIO
 * instead, whose default action ends the process. The handler stays: a SIGIO may be pending after the last connection
 * has left.
 */
static void expect_sigio(void)
{
	struct sigaction now, ours = {.sa_handler = ring_was_lost, .sa_flags = SA_RESTART | SA_ONSTACK};

	if (!next_sigaction(SIGIO, NULL, &now) && !(now.sa_flags & SA_SIGINFO) && now.sa_handler == SIG_DFL)
		next_sigaction(SIGIO, &ours, NULL);
}

/* The doorbell, and not SIGIO, is what the program cannot take from us. */
static void arm(int fd)
{
	set(fd, F_SETSIG, cpr__settings.signal);
	set(fd, F_SETOWN, getpid());
	set(fd, F_SETFL, next_fcntl(fd, F_GETFL, NULL) | O_ASYNC);
}

static void disarm(int fd)
{
	set(fd, F_SETFL, next_fcntl(fd, F_GETFL, NULL) & ~O_ASYNC);
	set(fd, F_SETOWN, 0);
	set(fd, F_SETSIG, 0);
}

/* It grows once for each size, however often no pair can be made. */
static bool has_place(struct deferred *h)
{
	size_t n = h->flight.pair_count;
	struct deferred_pair *more;

	if (n < h->places)
		return true;
	more = pool_longer(h->pairs, n, &h->places, n + 1, sizeof(*more));
	if (!more)
		return false;
	h->pairs = more;
	for (size_t i = 0; i < n; i++)
		more[i].heard = true; /* a ring may have been noted in the earlier array, behind the copy */
	return true;
}

/* Before there is a count of it, for deferred_heard. */
static bool add_pair(struct deferred *h)
{
	size_t n = h->flight.pair_count;

	if (!has_place(h))
		return false;
	memset(&h->pairs[n], 0, sizeof(h->pairs[n])); /* one that was closed may have left it */
	if (!n) {
		expect_sigio();
		h->pid = getpid();
	}
	return fdqueue_add_pair(&h->flight);
}

static bool has_number(struct deferred_pair *p)
{
	if (!p->count)
		p->named = 0;
	return p->named < FDQUEUE_PER_PAIR;
}

/* A pair that takes one more. NULL: there is no room. */
static struct deferred_pair *pair_with_room(struct deferred *h)
{
	size_t n = h->flight.pair_count;

	for (size_t i = n; i-- > 0;)
		if (has_number(&h->pairs[i]))
			return &h->pairs[i];
	return add_pair(h) ? &h->pairs[n] : NULL;
}

/*
 * Behind those that are held already: they come one by one from a generation that goes on beside this one. A queue of
 * its own for each, in the place of the last one, lost all of them but the last.
 */
bool deferred_keep(struct deferred *h, int fd)
{
	assert_guarded();
	struct deferred_pair *p = pair_with_room(h);

	if (!p)
		return false;
	p->numbers[p->named++] = fd;
	arm(fd);
	if (!fdqueue_put(&h->flight, (size_t)(p - h->pairs), fd)) {
		disarm(fd);
		return false;
	}
	p->count++;
	h->count++;
	p->heard = true; /* it may have been before it was armed */
	return true;
}

size_t deferred_keep_last(struct deferred *h, const int *fds, size_t n)
{
	size_t kept = 0;

	while (kept < n && deferred_keep(h, fds[n - 1 - kept]))
		kept++;
	return kept;
}

static bool is_named(const struct deferred_pair *p, int fd)
{
	for (size_t i = 0; i < FDQUEUE_PER_PAIR; i++)
		if (p->numbers[i] == fd)
			return true;
	return false;
}

void deferred_heard(struct deferred *h, int fd)
{
	for (size_t i = 0; i < h->flight.pair_count; i++)
		if (is_named(&h->pairs[i], fd))
			h->pairs[i].heard = true;
}

enum said { NOTHING, SOMETHING, GOODBYE };

static enum said said(int fd)
{
	char byte;
	ssize_t n = raw_recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	return n > 0 ? SOMETHING : n < 0 && errno == EAGAIN ? NOTHING : GOODBYE;
}

/* False: there is no room, and it stays. */
static bool deferred_goes_on(int fd, struct fdqueue *into)
{
	disarm(fd);
	if (fdqueue_put_anywhere(into, fd))
		return true;
	arm(fd);
	return false;
}

/* Once around: what is looked at and stays goes behind the others. */
static size_t deferred_hear_one(struct deferred *h, struct deferred_pair *p, bool rearm, bool silent_too,
				struct fdqueue *into)
{
	size_t pair = (size_t)(p - h->pairs), spoke = 0;

	for (size_t left = p->count; left; left--) {
		int fd = fdqueue_take_alone(&h->flight, pair);
		enum said word;

		if (fd < 0) { /* no number is free for it: later */
			p->heard = true;
			break;
		}
		if (rearm)
			arm(fd);
		word = said(fd);
		if ((word == SOMETHING || (word == NOTHING && silent_too)) && deferred_goes_on(fd, into)) {
			spoke++;
		} else if (word != GOODBYE && fdqueue_put(&h->flight, pair, fd)) {
			p->heard |= word == SOMETHING;
			continue;
		} else {
			raw_close(fd);
		}
		p->count--;
		h->count--;
	}
	return spoke;
}

size_t deferred_hear(struct deferred *h, struct fdqueue *into, enum deferred_whom whom)
{
	assert_guarded();
	bool rearm = h->count && h->pid != getpid();
	unsigned lost = atomic_load(&missed);
	size_t spoke = 0;

	if (whom == DEFERRED_RUNG && h->missed != lost)
		whom = DEFERRED_ANY;
	h->missed = lost;

	for (size_t i = 0; h->count && i < h->flight.pair_count; i++)
		if (atomic_exchange(&h->pairs[i].heard, false) || rearm || whom != DEFERRED_RUNG)
			spoke += deferred_hear_one(h, &h->pairs[i], rearm, whom == DEFERRED_SILENT_TOO, into);
	if (rearm)
		h->pid = getpid();
	return spoke;
}

int deferred_take(struct deferred *h)
{
	assert_guarded();
	int fd = h->count ? fdqueue_take(&h->flight) : -1;

	if (fd >= 0)
		disarm(fd);
	h->count -= fd >= 0;
	return fd;
}

void deferred_close(struct deferred *h)
{
	assert_guarded();
	fdqueue_close(&h->flight);
	h->count = 0;
}
