/* SPDX-License-Identifier: MIT */
/* The standard error of a generation: a relay passes it on, and keeps its end in a page that the supervisor reads. */
#define _GNU_SOURCE
#include "tail.h"

#include "base/attr.h"
#include "base/io.h"
#include "model/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TAIL_SIZE = 2048, TAIL_LINES = 5, LINE_SHOWN = 400, LAST_WORDS_MS = 200 };

struct tail_page {
	_Atomic size_t used;
	char bytes[TAIL_SIZE];
};

/* ---- the relay ---- */

static void remember(struct tail_page *page, const char *bytes, size_t n)
{
	size_t used = page->used;

	if (n > TAIL_SIZE) {
		bytes += n - TAIL_SIZE;
		n = TAIL_SIZE;
	}
	if (used + n > TAIL_SIZE) {
		size_t gone = used + n - TAIL_SIZE;

		memmove(page->bytes, page->bytes + gone, used - gone);
		used -= gone;
	}
	memcpy(page->bytes + used, bytes, n);
	page->used = used + n;
}

/* It keeps nothing of the supervisor's: a listener that it held would listen on. Its signals are blocked as the
 * supervisor's are: it ends with what it reads. */
__attribute__((noreturn)) static void relay(struct tail_page *page, int reader)
{
	char bytes[4096];
	ssize_t n;

	prctl(PR_SET_NAME, "cpr-relay");
	if (dup2(reader, STDIN_FILENO) < 0)
		_exit(1);
	close(STDOUT_FILENO);
	close_range(STDERR_FILENO + 1, ~0U, 0);
	while ((n = read(STDIN_FILENO, bytes, sizeof(bytes))) > 0) {
		remember(page, bytes, (size_t)n);
		if (io_write_all(STDERR_FILENO, bytes, (size_t)n))
			break;
	}
	_exit(0);
}

/* ---- the supervisor ---- */

int tail_open(struct tail *tail, int *writer)
{
	struct tail_page *page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cleanup_fd int reader = -1, other = -1;
	int ends[2], error;

	*tail = (struct tail){0};
	if (page == MAP_FAILED)
		return -errno;
	tail->page = page;
	if (pipe2(ends, O_CLOEXEC)) {
		error = errno;
		tail_close(tail);
		return -error;
	}
	reader = ends[0];
	other = ends[1];
	tail->relay = fork();
	if (!tail->relay)
		relay(page, reader);
	if (tail->relay < 0) {
		error = errno;
		tail_close(tail);
		return -error;
	}
	*writer = steal_fd(&other);
	return 0;
}

/* A process that the generation leaves behind may hold the other end: it is not awaited for long. */
static void await_last_words(const struct tail *tail)
{
	cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, tail->relay, 0);

	if (pidfd >= 0)
		io_await_input(pidfd, LAST_WORDS_MS);
}

void tail_put(const struct tail *tail, struct text *answer)
{
	size_t end, first;
	int lines = 0;

	if (!tail->page)
		return;
	await_last_words(tail);
	end = tail->page->used <= TAIL_SIZE ? tail->page->used : 0;
	while (end && tail->page->bytes[end - 1] == '\n')
		end--;
	for (first = end; first && lines < TAIL_LINES; first--)
		lines += tail->page->bytes[first - 1] == '\n';
	first += lines == TAIL_LINES;
	while (first < end) {
		const char *line = tail->page->bytes + first, *stop = memchr(line, '\n', end - first);
		size_t n = stop ? (size_t)(stop - line) : end - first, m = n > LINE_SHOWN ? LINE_SHOWN : n;
		char shown[LINE_SHOWN + 1];

		memcpy(shown, line, m);
		shown[m] = '\0';
		protocol_put(answer, "stderr", shown);
		first += n + 1;
	}
}

void tail_close(struct tail *tail)
{
	if (tail->page)
		munmap(tail->page, sizeof(*tail->page));
	*tail = (struct tail){0};
}
