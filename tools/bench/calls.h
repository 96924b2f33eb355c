/* SPDX-License-Identifier: MIT */
/* The measured calls: a child of the benchmark makes each in batches, on request. */
#ifndef CPR_BENCH_CALLS_H
#define CPR_BENCH_CALLS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What one thread of a child works with. */
struct work {
	int fds[2];        /* a pipe, a connection (the server's end, the client's), an epoll set and what is in it */
	int listener;
	uint16_t port;
	const char *path;  /* of a file that can be read: this program's own, absolute */
};

struct call {
	const char *name;
	double limit; /* target: the ratio is at most this; 0: there is none */
	int (*begin)(struct work *work);                     /* 0 or -errno; NULL: there is nothing to set up */
	/* returns the ns of `count` of them, without what is around them; or -errno */
	int64_t (*batch)(struct work *work, size_t count);
	size_t most;                                         /* of them in one batch; 0: no limit */
};

extern const struct call calls[];
extern const size_t call_count;

#endif
