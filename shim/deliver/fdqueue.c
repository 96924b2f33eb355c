/* SPDX-License-Identifier: MIT */
/* Descriptors in flight in socket pairs. */
#define _GNU_SOURCE
#include "deliver/fdqueue.h"

#include "base/guarded.h"
#include "base/newfd.h"
#include "process/guard.h"
#include "base/io.h"
#include "base/next.h"
#include "base/pool.h"
#include "base/raw.h"
#include "fd/tagging.h"
#include "model/protocol.h"

#include <string.h>
#include <sys/socket.h>

/*
 * At hidden numbers, where no free number is looked for. A child that closes all numbers that it does not know would
 * close these ends, and later its own descriptor at that number.
 */
static bool make_pair(int pair[2])
{
	if (newfd_socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, pair))
		return false;
	for (int end = 0; end < 2; end++) {
		pair[end] = io_move_up(pair[end], PROTOCOL_HIGH);
		tagging_hide("", pair[end]);
	}
	return true;
}

/* It grows once for each size, however often pairs fail. */
static bool fdqueue_has_places(struct fdqueue *f, size_t n)
{
	int (*more)[2];

	if (n <= f->places)
		return true;
	more = pool_longer(f->pairs, f->pair_count, &f->places, n, sizeof(*more));
	f->pairs = more ? more : f->pairs;
	return more;
}

bool fdqueue_open(struct fdqueue *f, size_t n)
{
	assert_guarded();
	size_t pairs = n ? (n + FDQUEUE_PER_PAIR - 1) / FDQUEUE_PER_PAIR : 1;

	f->pair_count = 0;
	f->emptied = 0;
	if (!fdqueue_has_places(f, pairs))
		return false;
	for (; f->pair_count < pairs; f->pair_count++) {
		if (!make_pair(f->pairs[f->pair_count])) {
			fdqueue_close(f);
			return false;
		}
	}
	return true;
}

bool fdqueue_add_pair(struct fdqueue *f)
{
	assert_guarded();

	f->fed = true;
	if (!fdqueue_has_places(f, f->pair_count + 1) || !make_pair(f->pairs[f->pair_count]))
		return false;
	f->pair_count++;
	return true;
}

bool fdqueue_put(struct fdqueue *f, size_t pair, int fd)
{
	assert_guarded();
	if (io_send(f->pairs[pair][0], "", 1, fd))
		return false;
	raw_close(fd);
	return true;
}

bool fdqueue_put_anywhere(struct fdqueue *f, int fd)
{
	for (size_t i = f->pair_count; i-- > 0;)
		if (fdqueue_put(f, i, fd))
			return true;
	return false;
}

/* Pair i has nothing in flight any more. Another thread may have seen that, too, and be at the next one already. */
static void pass_over(struct fdqueue *f, size_t i)
{
	if (!f->fed)
		atomic_compare_exchange_strong(&f->emptied, &i, i + 1);
}

static int take_from(struct fdqueue *f, size_t pair)
{
	char byte;
	int fd;

	return io_receive(f->pairs[pair][1], &byte, 1, &fd) > 0 ? fd : -1;
}

/* The kernel ends what comes out of a message and finds no number, but not while the message is only looked at. */
int fdqueue_take_alone(struct fdqueue *f, size_t pair)
{
	char byte;
	int fd;

	if (io_peek(f->pairs[pair][1], &byte, 1, &fd) <= 0)
		return -1;
	if (fd >= 0)
		raw_recv(f->pairs[pair][1], &byte, 1, MSG_DONTWAIT);
	return fd;
}

int fdqueue_take(struct fdqueue *f)
{
	for (size_t i = f->emptied; i < f->pair_count; i++) {
		int fd = take_from(f, i);

		if (fd >= 0)
			return fd;
		pass_over(f, i);
	}
	return -1;
}

bool fdqueue_is_empty(struct fdqueue *f)
{
	for (size_t i = f->emptied; i < f->pair_count; i++) {
		if (io_await_input(f->pairs[i][1], 0))
			return false;
		pass_over(f, i);
	}
	return true;
}

void fdqueue_close(struct fdqueue *f)
{
	assert_guarded();
	for (size_t i = 0; i < f->pair_count; i++) {
		for (int end = 0; end < 2; end++) {
			if (f->pairs[i][end] < 0)
				continue;
			table_forget_fd(cpr__table, f->pairs[i][end]);
			raw_close(f->pairs[i][end]);
		}
	}
	f->pair_count = 0;
	f->emptied = 0;
}

int fdqueue_end(const struct fdqueue *f, size_t i)
{
	return f->pairs[i][1];
}

bool fdqueue_expect(struct fdqueue *f, size_t pairs)
{
	fdqueue_close(f);
	f->fed = true;
	return fdqueue_has_places(f, pairs);
}

void fdqueue_add_end(struct fdqueue *f, int fd)
{
	f->pairs[f->pair_count][0] = -1;
	f->pairs[f->pair_count][1] = io_move_up(fd, PROTOCOL_HIGH);
	tagging_hide("", f->pairs[f->pair_count++][1]);
}

bool fdqueue_is_over(const struct fdqueue *f)
{
	char byte;

	return f->pair_count && raw_recv(f->pairs[0][1], &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}
