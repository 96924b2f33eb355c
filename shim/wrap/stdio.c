/* SPDX-License-Identifier: MIT */
/* Streams on connections: libc reads and writes for them inside itself, past every wrapper. */
#define _GNU_SOURCE
#include "fd/conn.h"
#include "base/next.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * The obvious answer is to let the bytes pass unseen, and to ask the kernel for its counts. They tell that
 * something came and went, and not what. A request would count as answered only after a pause of 50 ms. Nothing
 * could be held back at a boundary, since the next request is read inside libc, too. So such a stream is one of
 * fopencookie(3). It has the same buffers and locks, and its reads and writes are the calls that the program could
 * have made.
 */

static int fd_of(void *cookie)
{
	return (int)(intptr_t)cookie;
}

static ssize_t read_stream(void *cookie, char *bytes, size_t n)
{
	return read(fd_of(cookie), bytes, n);
}

/* All of it, as libc's own streams do; what was written at an error, 0 for nothing. */
static ssize_t write_all(void *cookie, const char *bytes, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t part = write(fd_of(cookie), bytes + done, n - done);

		if (part < 0)
			break;
		done += (size_t)part;
	}
	return (ssize_t)done;
}

/* libc asks for the place, and goes on without one where the answer is this. */
static int seek_nowhere(void *cookie, off64_t *at, int whence)
{
	(void)cookie;
	(void)at;
	(void)whence;
	errno = ESPIPE;
	return -1;
}

static int close_stream(void *cookie)
{
	return close(fd_of(cookie));
}

/* fdopen(3) finds the + among other letters ("re+"), fopencookie(3) only right behind r or rb. */
static void plain_mode(const char *mode, char plain[3])
{
	size_t n = strnlen(mode, 6);

	plain[0] = mode[0];
	plain[1] = n && memchr(mode, '+', n) ? '+' : '\0';
	plain[2] = '\0';
}

CPR_EXPORT FILE *fdopen(int fd, const char *mode)
{
	char plain[3];
	static const cookie_io_functions_t functions = {read_stream, write_all, seek_nowhere, close_stream};
	FILE *stream;

	if (likely(!conn_at(fd)))
		return next_fdopen(fd, mode);
	plain_mode(mode, plain);
	stream = fopencookie((void *)(intptr_t)fd, plain, functions);
	if (stream) {
		/* fileno() is to say what it always said; the stream itself does not use it */
		stream->_fileno = fd;
		/* fopencookie's is an address where nothing is, and freopen() writes there unless it is NULL */
		stream->_wide_data = NULL;
	}
	return stream;
}

/* libc formats into a stream of the moment. */
static int print(int fd, const char *format, va_list args)
{
	char *text;
	int n = vasprintf(&text, format, args), saved_errno;

	if (n < 0)
		return n;
	if (write_all((void *)(intptr_t)fd, text, (size_t)n) < n)
		n = -1;
	saved_errno = errno;
	free(text);
	errno = saved_errno;
	return n;
}

CPR_EXPORT int vdprintf(int fd, const char *format, va_list args)
{
	return likely(!conn_at(fd)) ? next_vdprintf(fd, format, args) : print(fd, format, args);
}

CPR_EXPORT int __vdprintf_chk(int fd, int flag, const char *format, va_list args)
{
	return likely(!conn_at(fd)) ? next___vdprintf_chk(fd, flag, format, args) : print(fd, format, args);
}

CPR_EXPORT int dprintf(int fd, const char *format, ...)
{
	va_list args;
	int r;

	va_start(args, format);
	r = vdprintf(fd, format, args);
	va_end(args);
	return r;
}

CPR_EXPORT int __dprintf_chk(int fd, int flag, const char *format, ...)
{
	va_list args;
	int r;

	va_start(args, format);
	r = __vdprintf_chk(fd, flag, format, args);
	va_end(args);
	return r;
}
