/* SPDX-License-Identifier: MIT */
/* What opens a path: claim it, or open it and tag what came. */
#define _GNU_SOURCE
#include "process/guard.h"
#include "fd/claim.h"
#include "base/next.h"
#include "base/readable.h"
#include "restart/pidfiles.h"
#include "wrap/wrap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>

/* The mode is there only with O_CREAT and O_TMPFILE; else the argument is not to be read. */
#define MODE_OF(flags, mode)                                                                                           \
	do {                                                                                                           \
		if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) {                                         \
			va_list args;                                                                                  \
			va_start(args, flags);                                                                         \
			(mode) = va_arg(args, mode_t);                                                                 \
			va_end(args);                                                                                  \
		}                                                                                                      \
	} while (0)

/* Only with orphans is there a reason to look at a path before the kernel has. */
static bool open_may_claim(const char *path)
{
	return unlikely(tagging_orphans()) && path && readable_string(path);
}

/*
 * Claims, or opens and tags: `call` is evaluated only if nothing was claimed. Not "inside the library": opening a
 * FIFO can block for ever, and a restart must not wait for that. A restart between the open and its tag makes the
 * next generation open anew.
 */
#define OPENED(dir, path, flags, call)                                                                                 \
	({                                                                                                             \
		int fd_ = open_may_claim(path) ? claim_open((dir), (path), (flags)) : -1;                              \
		if (likely(fd_ < 0) && !pidfiles_replaced((dir), (path), (flags), &fd_)) {                             \
			fd_ = (call);                                                                                  \
			if (fd_ >= 0) {                                                                                \
				tagging_opened(fd_, (dir), (path), (flags));                                           \
				pidfiles_opened((dir), (path), (flags));                                               \
			}                                                                                              \
		}                                                                                                      \
		fd_;                                                                                                   \
	})

CPR_EXPORT int open(const char *path, int flags, ...)
{
	mode_t mode = 0;

	MODE_OF(flags, mode);
	return OPENED(AT_FDCWD, path, flags, next_open(path, flags, mode));
}

CPR_EXPORT int open64(const char *path, int flags, ...)
{
	mode_t mode = 0;

	MODE_OF(flags, mode);
	return OPENED(AT_FDCWD, path, flags, next_open64(path, flags, mode));
}

CPR_EXPORT int __open(const char *path, int flags, ...)
{
	mode_t mode = 0;

	MODE_OF(flags, mode);
	return OPENED(AT_FDCWD, path, flags, next___open(path, flags, mode));
}

CPR_EXPORT int __open64(const char *path, int flags, ...)
{
	mode_t mode = 0;

	MODE_OF(flags, mode);
	return OPENED(AT_FDCWD, path, flags, next___open64(path, flags, mode));
}

int cpr__openat(int dir, const char *path, int flags, mode_t mode)
{
	return OPENED(dir, path, flags, next_openat(dir, path, flags, mode));
}

CPR_EXPORT int openat(int dir, const char *path, int flags, ...)
{
	mode_t mode = 0;

	MODE_OF(flags, mode);
	return cpr__openat(dir, path, flags, mode);
}

CPR_EXPORT int openat64(int dir, const char *path, int flags, ...)
{
	mode_t mode = 0;

	MODE_OF(flags, mode);
	return OPENED(dir, path, flags, next_openat64(dir, path, flags, mode));
}

CPR_EXPORT int creat(const char *path, mode_t mode)
{
	return OPENED(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, next_creat(path, mode));
}

CPR_EXPORT int creat64(const char *path, mode_t mode)
{
	return OPENED(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, next_creat64(path, mode));
}

/* What -D_FORTIFY_SOURCE makes of open without a mode. */
CPR_EXPORT int __open_2(const char *path, int flags)
{
	return OPENED(AT_FDCWD, path, flags, next___open_2(path, flags));
}

CPR_EXPORT int __open64_2(const char *path, int flags)
{
	return OPENED(AT_FDCWD, path, flags, next___open64_2(path, flags));
}

CPR_EXPORT int __openat_2(int dir, const char *path, int flags)
{
	return OPENED(dir, path, flags, next___openat_2(dir, path, flags));
}

CPR_EXPORT int __openat64_2(int dir, const char *path, int flags)
{
	return OPENED(dir, path, flags, next___openat64_2(dir, path, flags));
}

/* ---- streams: libc opens inside itself ---- */

/* fopen's mode as open's flags; -1 for one that libc will refuse. */
static int flags_of(const char *mode)
{
	int flags;

	switch (*mode) {
	case 'r':
		flags = 0;
		break;
	case 'w':
		flags = O_CREAT | O_TRUNC;
		break;
	case 'a':
		flags = O_CREAT | O_APPEND;
		break;
	default:
		return -1;
	}
	flags |= strchr(mode, '+') ? O_RDWR : *mode == 'r' ? O_RDONLY : O_WRONLY;
	for (; *mode && *mode != ','; mode++)
		flags |= *mode == 'x' ? O_EXCL : *mode == 'e' ? O_CLOEXEC : 0;
	return flags;
}

static FILE *claim_stream(const char *path, const char *mode)
{
	int flags = tagging_orphans() && mode ? flags_of(mode) : -1, fd;
	FILE *stream;

	if (flags == -1)
		return NULL;
	fd = claim_open(AT_FDCWD, path, flags);
	if (fd < 0)
		return NULL;
	stream = fdopen(fd, mode);
	if (!stream)
		next_close(fd);
	return stream;
}

static FILE *opened(FILE *stream, const char *path, const char *mode)
{
	if (stream && path && mode && fileno(stream) >= 0) {
		tagging_opened(fileno(stream), AT_FDCWD, path, flags_of(mode));
		pidfiles_opened(AT_FDCWD, path, flags_of(mode));
	}
	return stream;
}

/* Has another file been opened in its place, or is it not there? */
static bool stream_is_replaced(const char *path, const char *mode, FILE **stream)
{
	int fd = -1;

	if (likely(!gate_claims()) || !mode || flags_of(mode) < 0 ||
	    !pidfiles_stand_in(AT_FDCWD, path, flags_of(mode), &fd))
		return false;
	*stream = fd < 0 ? NULL : fdopen(fd, mode);
	if (fd >= 0 && !*stream)
		next_close(fd);
	return true;
}

CPR_EXPORT FILE *fopen(const char *path, const char *mode)
{
	FILE *stream = claim_stream(path, mode);

	return stream || stream_is_replaced(path, mode, &stream) ? stream : opened(next_fopen(path, mode), path, mode);
}

CPR_EXPORT FILE *fopen64(const char *path, const char *mode)
{
	FILE *stream = claim_stream(path, mode);

	return stream || stream_is_replaced(path, mode, &stream) ? stream
								 : opened(next_fopen64(path, mode), path, mode);
}

/*
 * freopen closes and opens inside libc: what stood at the old number is forgotten, what comes is tagged, nothing is
 * claimed.
 */
CPR_EXPORT FILE *freopen(const char *path, const char *mode, FILE *stream)
{
	if (stream && fileno(stream) >= 0)
		tagging_closing(fileno(stream));
	return opened(next_freopen(path, mode, stream), path, mode);
}

CPR_EXPORT FILE *freopen64(const char *path, const char *mode, FILE *stream)
{
	if (stream && fileno(stream) >= 0)
		tagging_closing(fileno(stream));
	return opened(next_freopen64(path, mode, stream), path, mode);
}

CPR_EXPORT int memfd_create(const char *name, unsigned flags)
{
	int fd;

	guard_enter();
	fd = open_may_claim(name) ? claim_memfd(name, flags) : -1;
	if (fd < 0) {
		fd = next_memfd_create(name, flags);
		if (fd >= 0)
			tagging_memfd(fd, name);
	}
	guard_exit();
	return fd;
}
