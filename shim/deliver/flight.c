/* SPDX-License-Identifier: MIT */
/* Flight: the way into the queues. */
#define _GNU_SOURCE
#include "deliver/flight.h"

#include "base/guarded.h"
#include "fd/conn.h"
#include "fd/tagging.h"
#include "process/roster.h"

bool flight_can_knock(size_t n)
{
	if (knock_is_prepared())
		return true;
	if (!knock_prepare(n))
		return false;
	tagging_hide("", knock_shared());
	return true;
}

/* Sorts connections with an unread request to the front. Returns their number. */
static size_t put_asking_first(int *fds, size_t n)
{
	size_t asking = 0;

	for (size_t i = 0; i < n; i++) {
		int fd = fds[i];

		if (!conn_has_unread(fd))
			continue;
		fds[i] = fds[asking];
		fds[asking++] = fd;
	}
	return asking;
}

static bool is_deferred(const struct family *f)
{
	const struct entry *e = table_find(cpr__table, f->name, 0);

	return e && knock_is_deferred(e->fd);
}

/*
 * The first `go`, into their pairs, or (a restart was called off, or they stayed here before) where there is room. How
 * many of them went, and in *asking how many of the first *asking.
 */
static size_t put_first(struct family *f, size_t go, bool anywhere, size_t *asking)
{
	size_t went = 0, stay = 0, asked = 0;

	for (size_t i = 0; i < go; i++) {
		int fd = f->fds[i];

		if (anywhere ? fdqueue_put_anywhere(&f->flight, fd)
			     : fdqueue_put(&f->flight, i / FDQUEUE_PER_PAIR, fd)) {
			asked += i < *asking;
			went++;
		} else {
			tagging_hide(f->name, fd);
			f->fds[stay++] = fd;
		}
	}
	f->count = stay;
	*asking = asked;
	return went;
}

/* A connection without data of a listener with a deferred accept() is held: only the owner gets its signal. */
void flight_put(struct family *f)
{
	assert_guarded();
	bool again = f->flight.pair_count, owner = roster_elect();
	size_t asking, go = f->count, went;

	f->stays = true;
	if (!flight_can_knock(f->count) || (!again && !fdqueue_open(&f->flight, f->count)))
		return;
	asking = put_asking_first(f->fds, f->count);
	for (size_t i = 0; i < f->count; i++)
		table_forget_fd(cpr__table, f->fds[i]); /* closed here, their numbers are the program's */
	if ((owner || !again) && is_deferred(f))
		go -= deferred_keep_last(&f->held, f->fds + asking, f->count - asking);
	if (!again)
		f->flight.fed = go < f->count;
	went = put_first(f, go, again, &asking);
	f->stays = f->count;
	if (again && !owner) /* its owner knocks for it */
		return;
	if (!f->unknocked)
		f->asking = asking;
	f->unknocked += went;
}
