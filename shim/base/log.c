/* SPDX-License-Identifier: MIT */
/* Lines to stderr or to a file. */
#define _GNU_SOURCE
#include "base/log.h"

#include "base/io.h"
#include "base/next.h"
#include "base/raw.h"
#include "base/room.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { LOG_LINE = 1024 };

static enum log_level wanted = LOG_LEVEL_WARN;
static const char *file;
static bool began, paused;
static uint64_t socket_at_start; /* 0: standard error was none */

static const char *const names[] = {"error", "warn", "info", "debug"};

void log_to(enum log_level level, const char *path)
{
	wanted = level;
	file = path;
}

int log_level_parse(const char *name, enum log_level *level)
{
	for (size_t i = 0; i < countof(names); i++)
		if (!strcmp(name, names[i])) {
			*level = (enum log_level)i;
			return 0;
		}
	return -EINVAL;
}

void log_pause(bool on)
{
	paused = on;
}

void log_begin(uint64_t socket_ino)
{
	began = true;
	socket_at_start = socket_ino;
}

/*
 * Is standard error another socket than at the start? A daemon that closed it may get a client's connection at that
 * number, and our log must not go to a client. A supervisor's socket is there from the start.
 */
static bool is_not_ours(void)
{
	struct stat st;

	return began && !fstat(STDERR_FILENO, &st) && S_ISSOCK(st.st_mode) && st.st_ino != socket_at_start;
}

/*
 * Writes without waiting. A pipe or a socket may be full by now, although poll() found room: other processes write
 * there, too. O_NONBLOCK would change the description for them as well. A kernel that does not support RWF_NOWAIT for
 * pipes (before Linux 6.4) gets a plain write. Returns 0, or -errno.
 */
static int write_at_once(int fd, const char *line, size_t n)
{
	struct iovec iov = {(char *)line, n};
	struct stat st;

	if (!fstat(fd, &st) && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode))) {
		if (next_sys(SYS_pwritev2, fd, &iov, 1, -1, -1, RWF_NOWAIT) >= 0)
			return 0;
		if (errno != EOPNOTSUPP && errno != ENOSYS)
			return -errno;
	}
	return io_write_all(fd, line, n);
}

/*
 * Without a reader the kernel sends SIGPIPE. The program did not cause that, so we take the signal back. A slow reader
 * loses the line.
 */
static void write_line(int fd, const char *line, size_t n)
{
	uint64_t pipe = UINT64_C(1) << (SIGPIPE - 1), before = 0, pending = 0;
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	struct timespec none = {0};

	if (raw_poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT) || p.revents & POLLERR)
		return;
	next_sys(SYS_rt_sigpending, &pending, sizeof(pending));
	next_sys(SYS_rt_sigprocmask, SIG_BLOCK, &pipe, &before, sizeof(before));
	if (write_at_once(fd, line, n) == -EPIPE && !(pending & pipe))
		next_sys(SYS_rt_sigtimedwait, &pipe, NULL, &none, sizeof(pipe));
	next_sys(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof(before));
}

void log_line(enum log_level level, const char *format, ...)
{
	cleanup_room char *line = NULL;
	int saved_errno = errno, fd = -1;
	struct text t;
	va_list args;

	if (level > wanted || paused || !(line = room_take()))
		return;
	t = text_on(line, LOG_LINE);
	text_format(&t, "cpr[%d]: ", (int)getpid());
	va_start(args, format);
	text_vformat(&t, format, args);
	va_end(args);
	if (t.cut)
		t.used = LOG_LINE - 2;
	line[t.used++] = '\n';
	if (file)
		fd = raw_open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
	if (fd >= 0)
		write_line(fd, line, t.used);
	else if (!is_not_ours())
		write_line(STDERR_FILENO, line, t.used);
	if (fd >= 0)
		raw_close(fd);
	errno = saved_errno;
}
