/* SPDX-License-Identifier: MIT */
/* Numbers that change hands or end: what is tagged follows them, and what is handed over and not claimed lives on. */
#define _GNU_SOURCE
#include "process/guard.h"
#include "process/birth.h"
#include "fd/claim.h"
#include "fd/conn.h"
#include "base/next.h"
#include "wrap/wrap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdarg.h>
#include <sys/ioctl.h>

static int not_open(void)
{
	errno = EBADF;
	return -1;
}

int cpr__close(int fd)
{
	if (offered_closing(fd))
		return 0;
	return tagging_closing(fd) ? next_close(fd) : not_open();
}

CPR_EXPORT int close(int fd)
{
	return cpr__close(fd);
}

CPR_EXPORT int __close(int fd)
{
	return cpr__close(fd);
}

CPR_EXPORT int fclose(FILE *stream)
{
	int saved_errno = errno, fd = stream ? fileno(stream) : -1;

	errno = saved_errno;
	if (unlikely(conn_at(fd) != NULL)) /* what is buffered is written first; and it closes by close(): see fdopen */
		return next_fclose(stream);
	tagging_closing(fd);
	return next_fclose(stream);
}

/* Daemons close everything at the start. Closes what lies between the orphans. */
static int close_between(unsigned first, unsigned last, int flags)
{
	int fd = first > INT32_MAX ? -1 : table_next_fd(cpr__table, (int)first);

	for (int c = first > INT32_MAX ? -1 : conn_next((int)first); c >= 0 && (unsigned)c <= last;
	     c = conn_next(c + 1))
		conn_end(c);
	for (; fd >= 0 && (unsigned)fd <= last; fd = table_next_fd(cpr__table, fd + 1)) {
		if (!offered_closing(fd) && tagging_closing(fd))
			continue;
		if ((unsigned)fd > first && next_close_range(first, (unsigned)fd - 1, flags))
			return -1;
		first = (unsigned)fd + 1;
	}
	return first <= last ? next_close_range(first, last, flags) : 0;
}

CPR_EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	int r;

	/*
	 * orphans are close-on-exec already, and a private copy of the table (UNSHARE) is a child's that is about
	 * to exec
	 */
	if (!cpr__table || first > last || flags & ~CLOSE_RANGE_UNSHARE)
		return next_close_range(first, last, flags);
	if (!birth_own_memory())
		return next_close_range(first, last, flags);
	guard_enter();
	r = close_between(first, last, flags);
	guard_exit();
	return r;
}

CPR_EXPORT void closefrom(int first)
{
	int saved_errno = errno;

	if (cpr__table && birth_own_memory() && table_next_fd(cpr__table, first < 0 ? 0 : first) >= 0 &&
	    !close_range(first < 0 ? 0 : (unsigned)first, ~0U, 0))
		errno = saved_errno;
	else
		next_closefrom(first);
}

static int duplicated(int from, int to)
{
	if (to >= 0)
		tagging_dup(from, to);
	return to;
}

static __attribute__((noinline)) int dup_remembered(int fd)
{
	int to;

	if (unlikely(tagging_hidden(fd)))
		return not_open();
	guard_enter();
	to = duplicated(fd, next_dup(fd));
	guard_exit();
	return to;
}

CPR_EXPORT int dup(int fd)
{
	int to;

	if (unlikely(tagging_orphans()) || unlikely(tagging_remembers(fd)) || unlikely(pending_any(fd)))
		return dup_remembered(fd);
	to = next_dup(fd);
	if (to >= 0)
		tagging_fresh(to);
	return to;
}

/* If not, dup2 fails, and leaves the other number as it is. */
static bool fd_is_open(int fd)
{
	int saved_errno = errno;
	bool open = !unlikely(tagging_orphans()) || next_fcntl(fd, F_GETFD, NULL) >= 0;

	errno = saved_errno;
	return open;
}

static void make_way(int to)
{
	offered_closing(to);
	tagging_make_way(to);
}

CPR_EXPORT int dup2(int from, int to)
{
	int r;

	if (unlikely(tagging_hidden(from)))
		return not_open();
	guard_enter();
	if (from != to && fd_is_open(from))
		make_way(to);
	r = next_dup2(from, to);
	if (from != to)
		duplicated(from, r);
	guard_exit();
	return r;
}

CPR_EXPORT int __dup2(int from, int to)
{
	return dup2(from, to);
}

CPR_EXPORT int dup3(int from, int to, int flags)
{
	int r;

	if (unlikely(tagging_hidden(from)))
		return not_open();
	guard_enter();
	if (from != to && !(flags & ~O_CLOEXEC) && fd_is_open(from))
		make_way(to);
	r = duplicated(from, next_dup3(from, to, flags));
	guard_exit();
	return r;
}

/* fcntl's third argument is an int, a pointer or not there; as a register it is always the same. */
#define FCNTL(fd, command, next)                                                                                       \
	({                                                                                                             \
		va_list args_;                                                                                         \
		void *arg_;                                                                                            \
		int r_;                                                                                                \
		va_start(args_, command);                                                                              \
		arg_ = va_arg(args_, void *);                                                                          \
		va_end(args_);                                                                                         \
		if (unlikely(tagging_hidden(fd))) {                                                                    \
			r_ = not_open();                                                                               \
		} else {                                                                                               \
			r_ = next(fd, command, arg_);                                                                  \
			if (unlikely((command) == F_DUPFD || (command) == F_DUPFD_CLOEXEC))                            \
				duplicated(fd, r_);                                                                    \
		}                                                                                                      \
		r_;                                                                                                    \
	})

CPR_EXPORT int fcntl(int fd, int command, ...)
{
	return FCNTL(fd, command, next_fcntl);
}

CPR_EXPORT int fcntl64(int fd, int command, ...)
{
	return FCNTL(fd, command, next_fcntl64);
}

CPR_EXPORT int __fcntl(int fd, int command, ...)
{
	return FCNTL(fd, command, next___fcntl);
}

CPR_EXPORT int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	return unlikely(tagging_hidden(fd)) ? not_open() : next_ioctl(fd, request, arg);
}
