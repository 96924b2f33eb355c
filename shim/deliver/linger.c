/* SPDX-License-Identifier: MIT */
/* Connections that end with FIN after their last byte, never with a reset. */
#define _GNU_SOURCE
#include "deliver/linger.h"

#include "base/guarded.h"
#include "process/guard.h"
#include "base/io.h"
#include "base/next.h"
#include "base/pool.h"
#include "base/raw.h"
#include "fd/tagging.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

enum {
	LINGER_MS = 2000,  /* how long a peer that does not end its side is waited for */
	/* of 4 KiB, from one connection at a look: an upload may be endless, and the guard is held */
	READS_AT_ONCE = 16,
};

static int *ending;
static size_t count;
static int64_t until;

bool linger_prepare(size_t n)
{
	ending = pool_alloc((n + 1) * sizeof(int));
	until = io_now() + LINGER_MS * INT64_C(1000000);
	return ending != NULL;
}

void linger_begin(int fd)
{
	assert_guarded();
	next_shutdown(fd, SHUT_WR);
	next_fcntl(fd, F_SETFL, (void *)(long)(next_fcntl(fd, F_GETFL, NULL) | O_NONBLOCK));
	ending[count++] = fd;
	tagging_hide("", fd);
}

bool linger_over(void)
{
	assert_guarded();
	static cpr_large char dropped[4096]; /* the guard is held, and a handler's stack may be small */
	bool late = io_now() >= until;
	size_t left = 0;

	for (size_t i = 0; i < count; i++) {
		const struct entry *e = table_by_fd(cpr__table, ending[i]);
		ssize_t n;
		int reads = 0;

		if (!e || strcmp(e->name, TAGGING_HIDDEN) || !object_still(&e->object, ending[i]))
			continue; /* closed behind our back: the number is the program's */
		do
			n = raw_recv(ending[i], dropped, sizeof(dropped), MSG_DONTWAIT);
		while (n > 0 && ++reads < READS_AT_ONCE);
		if ((n > 0 || (n < 0 && errno == EAGAIN)) && !late)
			ending[left++] = ending[i];
		else {
			table_forget_fd(cpr__table, ending[i]);
			raw_close(ending[i]);
		}
	}
	count = left;
	return !left;
}

size_t linger_hand_on(struct passed *into, size_t most)
{
	assert_guarded();
	size_t n = 0;

	for (size_t i = 0; i < count && n < most; i++) {
		struct object object;

		if (!object_of(ending[i], &object))
			into[n++] = (struct passed){.fd = ending[i], .listener = -1, .ino = object.ino};
	}
	return n;
}
