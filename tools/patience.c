/* SPDX-License-Identifier: MIT */
/* How a tool waits for another process's answer. */
#define _GNU_SOURCE
#include "patience.h"

#include "base/io.h"

#include <errno.h>

static int plain(struct pollfd *on, size_t count, int ms)
{
	return poll(on, count, ms);
}

static int (*wait_for)(struct pollfd *on, size_t count, int ms) = plain;

void patience_is(int (*poll)(struct pollfd *on, size_t count, int ms))
{
	wait_for = poll;
}

int patience_poll(struct pollfd *on, size_t count, int ms)
{
	return wait_for(on, count, ms);
}

bool patience_await(int fd, int ms)
{
	struct pollfd on = {.fd = fd, .events = POLLIN};
	int64_t until = io_now() + ms * INT64_C(1000000);
	int n;

	do {
		int64_t left = until - io_now();

		n = patience_poll(&on, 1, left > 0 ? (int)(left / 1000000) + 1 : 0);
	} while (n < 0 && errno == EINTR && io_now() < until);
	return n > 0;
}
