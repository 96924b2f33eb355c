/* SPDX-License-Identifier: MIT */
/* Looks at connections while the program goes on: nothing is held back here. */
#define _GNU_SOURCE
#include "drain/inflight.h"

#include "drain/kinship.h"
#include "fd/conn.h"
#include "base/io.h"
#include "base/pool.h"

enum { NOTED_MAX = 1 << 16 }; /* the rest is not awaited here, but by the drain */

static struct noted {
	int fd;
	/* bytes read: more of them, and it is another request by now (or a long upload, which the drain awaits) */
	uint64_t in;
} *noted;
static size_t noted_count;

void inflight_begin(void)
{
	int64_t now = io_now();

	kinship_look();
	noted = noted ? noted : pool_map(NOTED_MAX * sizeof(*noted));
	noted_count = 0;
	for (int fd = conn_next(0); noted && fd >= 0 && noted_count < NOTED_MAX; fd = conn_next(fd + 1)) {
		const struct conn *c = conn_at(fd);

		if (c && !conn_at_boundary(c, now) && !(c->flags & CONN_EXEMPT))
			noted[noted_count++] = (struct noted){fd, c->in};
	}
}

/* A stream, or a TLS handshake, goes on as long as it lives and is in no silence, whatever is read meanwhile. */
static bool inflight_goes_on(struct conn *c, const struct noted *n, int64_t now)
{
	if (conn_is_endless(c) || conn_silence_ns(c))
		return conn_look(c, n->fd, now) == CONN_IN_PROGRESS;
	return c->in == n->in && !conn_at_boundary(c, now) && conn_look(c, n->fd, now) == CONN_IN_PROGRESS;
}

size_t inflight_left(void)
{
	int64_t now = io_now();
	size_t left = 0;

	for (size_t i = 0; i < noted_count; i++) {
		struct conn *c = conn_at(noted[i].fd);

		if (!c || !inflight_goes_on(c, &noted[i], now))
			continue;
		noted[left++] = noted[i];
	}
	noted_count = left;
	return left;
}
