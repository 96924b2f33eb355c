/* SPDX-License-Identifier: MIT */
/* A pipe whose text is passed on to our stderr, and whose end is remembered. */
#define _GNU_SOURCE
#include "tail.h"

#include "base/io.h"
#include "model/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { LINE_SHOWN = 400 };

int tail_open(struct tail *tail, int *writer)
{
	int ends[2];

	tail->fd = -1;
	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	tail->fd = ends[0];
	*writer = ends[1];
	return 0;
}

static void remember(struct tail *tail, const char *bytes, size_t n)
{
	if (n > TAIL_SIZE) {
		bytes += n - TAIL_SIZE;
		n = TAIL_SIZE;
	}
	if (tail->used + n > TAIL_SIZE) {
		size_t gone = tail->used + n - TAIL_SIZE;

		memmove(tail->bytes, tail->bytes + gone, tail->used - gone);
		tail->used -= gone;
	}
	memcpy(tail->bytes + tail->used, bytes, n);
	tail->used += n;
}

void tail_read(struct tail *tail)
{
	char bytes[4096];
	ssize_t n = read(tail->fd, bytes, sizeof(bytes));

	if (n > 0) {
		remember(tail, bytes, (size_t)n);
		io_write_all(STDERR_FILENO, bytes, (size_t)n);
	} else if (!n || (errno != EAGAIN && errno != EINTR)) {
		tail_close(tail);
	}
}

void tail_put(const struct tail *tail, struct text *answer)
{
	size_t end = tail->used, first = end;
	int lines = 0;

	while (end && tail->bytes[end - 1] == '\n')
		end--;
	for (first = end; first && lines < TAIL_LINES; first--)
		lines += tail->bytes[first - 1] == '\n';
	first += lines == TAIL_LINES;
	while (first < end) {
		const char *line = tail->bytes + first, *stop = memchr(line, '\n', end - first);
		size_t n = stop ? (size_t)(stop - line) : end - first;
		char shown[LINE_SHOWN + 1];
		size_t m = n > LINE_SHOWN ? LINE_SHOWN : n;

		memcpy(shown, line, m);
		shown[m] = '\0';
		protocol_put(answer, "stderr", shown);
		first += n + 1;
	}
}

void tail_close(struct tail *tail)
{
	io_close(&tail->fd);
	tail->fd = -1;
}
