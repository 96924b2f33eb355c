/* SPDX-License-Identifier: MIT */
/* Accepted: a carried connection takes the place of the knock that the program has accepted. */
#define _GNU_SOURCE
#include "deliver/accepted.h"

#include "base/full.h"
#include "base/io.h"
#include "base/newfd.h"
#include "base/next.h"
#include "base/raw.h"
#include "deliver/family.h"
#include "deliver/queue.h"
#include "fd/conn.h"
#include "fd/tagging.h"
#include "process/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>

enum { SERVED_MAX = 64 }; /* carried connections that have asked, in one process; what is beyond is not waited for */

/* descriptor + 1 of a carried connection that has asked, and is not answered yet */
static _Atomic int serving[SERVED_MAX];

/* Has its client asked for something already? Then the program is at work for it until it writes. */
static void begin_service(int fd)
{
	bool asks = conn_has_unread(fd);

	for (int i = 0; asks && i < SERVED_MAX; i++) {
		int none = 0;

		if (atomic_compare_exchange_strong(&serving[i], &none, fd + 1))
			return;
	}
	if (asks)
		full_note(FULL_SERVED, SERVED_MAX);
	knock_served();
}

void deliver_wrote(int fd)
{
	for (int i = 0; i < SERVED_MAX; i++) {
		int it = fd + 1;

		if (serving[i] == it && atomic_compare_exchange_strong(&serving[i], &it, 0))
			knock_served();
	}
}

static void name_peer(int fd, struct sockaddr *addr, socklen_t *len)
{
	struct sockaddr_storage there = {0};
	socklen_t there_len = sizeof(there);

	if (!addr || !len || getpeername(fd, (struct sockaddr *)&there, &there_len))
		return;
	memcpy(addr, &there, *len < there_len ? *len : there_len);
	*len = there_len;
}

static bool has_free_number(int fd)
{
	int spare = next_fcntl(fd, F_DUPFD_CLOEXEC, NULL);

	if (spare >= 0)
		raw_close(spare);
	return spare >= 0;
}

/*
 * Puts a carried connection at *fd, in place of the accepted knock, with the flags of accept4. Returns false if there
 * is none; *fd is closed. A descriptor in a message that finds no free number is lost, so the limit is lifted
 * meanwhile. Only if all numbers up to the hard limit are in use, the knock is closed first, to free one. Another
 * thread may take that number before the message does, and the connection then stays at a number that another thread
 * has just freed.
 */
static bool take_in_place(struct family *f, int *fd, int flags)
{
	struct rlimit before = {0};
	bool beside;
	int carried, status, nonblock = flags & SOCK_NONBLOCK ? O_NONBLOCK : 0;

	newfd_lift_limit(true, &before);
	beside = has_free_number(*fd);
	if (!beside)
		raw_close(*fd);
	carried = fdqueue_take(&f->flight);
	if (beside && carried >= 0 && next_dup3(carried, *fd, O_CLOEXEC) >= 0) {
		raw_close(carried);
		carried = *fd;
	} else if (beside) {
		raw_close(*fd);
	}
	newfd_lift_limit(false, &before);
	if (carried < 0)
		return false;
	*fd = carried;
	status = next_fcntl(carried, F_GETFL, NULL);
	if (!(flags & SOCK_CLOEXEC))
		next_fcntl(carried, F_SETFD, NULL);
	next_fcntl(carried, F_SETFL, (void *)(long)((status & ~O_NONBLOCK) | nonblock));
	return true;
}

static void accepted_leave(struct family *f)
{
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	if (fdqueue_is_over(&f->flight)) /* another thread may have been here */
		fdqueue_close(&f->flight);
	if (!family_any_joined())
		atomic_store(&deliver_waiting, false);
	guard_unlock(&hold);
}

int deliver_accepted(int listener, int *fd, int flags, struct sockaddr *addr, socklen_t *len)
{
	struct entry *e = table_by_fd(cpr__table, listener);
	struct family *f = e ? family_named(e->name) : NULL;
	int saved_errno = errno, r = -1;
	enum knock_kind kind;

	if (f && f->joined && fdqueue_is_over(&f->flight))
		accepted_leave(f);
	kind = f ? knock_kind(*fd) : KNOCK_NONE;

	if (kind != KNOCK_MADE) {
		if (kind == KNOCK_GIVEN_UP)
			raw_close(*fd);
		errno = saved_errno;
		return kind == KNOCK_GIVEN_UP ? -1 : 0;
	}
	knock_accepted();
	if (take_in_place(f, fd, flags)) {
		name_peer(*fd, addr, len);
		begin_service(*fd);
		r = 1;
	} else {
		knock_served();
	}
	errno = saved_errno;
	return r;
}
