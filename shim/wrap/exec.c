/* SPDX-License-Identifier: MIT */
/*
 * exec: into a stranger, which gets nothing of ours, or into the program's own next generation, which gets the
 * state.
 */
#define _GNU_SOURCE
#include "base/attr.h"
#include "process/doorbell.h"
#include "process/guard.h"
#include "process/page.h"
#include "process/roster.h"
#include "restart/leave.h"
#include "base/next.h"
#include "base/readable.h"
#include "base/room.h"
#include "model/settings.h"
#include "wrap/wrap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * fork, vfork, posix_spawn, daemon and system have no wrapper. process/birth.c says how we find children, and
 * restart/exec.c why none of them is born with a descriptor that it should not have.
 */

static bool is_list(char *const list[])
{
	for (; readable(list, sizeof(*list)); list++)
		if (!*list)
			return true;
		else if (!readable_string(*list))
			return false;
	return false;
}

/* What cannot be read is the kernel's to refuse, as it would be without us; so nothing is prepared for it. */
static bool exec_is_own(const char *path, char *const argv[], char *const envp[])
{
	return cpr__table && roster_elect() && readable_string(path) && is_list(argv) && (!envp || is_list(envp)) &&
	       leave_is_own(path, argv);
}

static int exec_leave(const char *path, char *const argv[], char *const envp[])
{
	errno = -leave_by_itself(path, argv, envp);
	return -1;
}

/*
 * Will the next image have the library, and with it a handler? The kernel refuses an environment that cannot be
 * read.
 */
static bool comes_again(char *const envp[])
{
	const char *preload = envp == environ || (envp && is_list(envp)) ? settings_env(envp, "LD_PRELOAD") : NULL;

	return preload && strstr(preload, "libcpr.so");
}

enum { RING_NS = 2000000 };

/*
 * The owner may just have decided to ring this process, which is no worker any more. The ring takes some
 * microseconds; 2 ms are awaited.
 */
static void await_last_ring(void)
{
	struct page_drain *drain = page_shared_drain();
	struct timespec pause = {0, RING_NS};

	if (drain && (atomic_load(&drain->nonce) || atomic_load(&drain->survey)))
		next_sys(SYS_nanosleep, &pause, NULL);
}

/*
 * Before an exec into a stranger: a worker that becomes a CGI script is no worker. A late ring would end the next
 * image, which has no handler yet. So the signal is ignored from here on, which survives exec, until the library is
 * there again. An image without the library would ignore it for good, and so would all its children: there the last
 * ring is awaited instead.
 */
static bool before_stranger(char *const envp[])
{
	bool mutes = comes_again(envp);

	roster_worker_leaves();
	if (mutes)
		doorbell_mute(true);
	else
		await_last_ring();
	return mutes;
}

static void no_stranger(bool muted)
{
	if (muted)
		doorbell_mute(false);
	roster_worker_stays();
}

#define FOREIGN(envp, call)                                                                                            \
	({                                                                                                             \
		bool muted_ = before_stranger(envp);                                                                   \
		int r_ = (call);                                                                                       \
		no_stranger(muted_);                                                                                   \
		r_;                                                                                                    \
	})

__attribute__((hot)) int cpr__execve(const char *path, char *const argv[], char *const envp[])
{
	if (exec_is_own(path, argv, envp))
		return exec_leave(path, argv, envp);
	return FOREIGN(envp, next_execve(path, argv, envp));
}

CPR_EXPORT __attribute__((hot)) int execve(const char *path, char *const argv[], char *const envp[])
{
	return cpr__execve(path, argv, envp);
}

CPR_EXPORT int execv(const char *path, char *const argv[])
{
	return cpr__execve(path, argv, environ);
}

/* The first executable of that name in $PATH, as execvp looks for it. */
static const char *search(const char *file, char room[TAG_NAME_MAX + 1])
{
	const char *at = settings_env(environ, "PATH");

	if (!file || strchr(file, '/'))
		return file;
	for (at = at ? at : "/bin:/usr/bin"; *file; at++) {
		size_t n = strcspn(at, ":");
		struct text t = text_on(room, TAG_NAME_MAX + 1);

		text_add_bytes(&t, n ? at : ".", n ? n : 1);
		text_add(&t, "/");
		text_add(&t, file);
		if (!t.cut && !faccessat(AT_FDCWD, room, X_OK, 0))
			return room;
		at += n;
		if (!*at)
			break;
	}
	return NULL;
}

static __attribute__((noinline)) bool own_file(const char *file, char *const argv[], char *const envp[],
					       char room[TAG_NAME_MAX + 1], const char **path)
{
	int saved_errno = errno;

	*path = search(file, room);
	errno = saved_errno;
	return *path && exec_is_own(*path, argv, envp);
}

static int by_own_file(const char *file, char *const argv[], char *const envp[])
{
	cleanup_room char *room = room_take();
	const char *path;

	return room && own_file(file, argv, envp, room, &path) ? exec_leave(path, argv, envp)
							       : next_execvpe(file, argv, envp);
}

static int by_file(const char *file, char *const argv[], char *const envp[])
{
	return roster_elect() ? by_own_file(file, argv, envp) : FOREIGN(envp, next_execvpe(file, argv, envp));
}

CPR_EXPORT int execvp(const char *file, char *const argv[])
{
	return by_file(file, argv, environ);
}

CPR_EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	return by_file(file, argv, envp);
}

static size_t exec_count_arguments(va_list given)
{
	va_list args;
	size_t n = 1;

	va_copy(args, given);
	while (va_arg(args, char *))
		n++;
	va_end(args);
	return n;
}

/* The arguments of execl and its kin, on the stack: there is no other memory that a signal handler may take. */
#define LISTED(arg, argv, envp)                                                                                        \
	va_list args;                                                                                                  \
	size_t n;                                                                                                      \
	va_start(args, arg);                                                                                           \
	n = (arg) ? exec_count_arguments(args) : 0;                                                                    \
	char *argv[n + 1];                                                                                             \
	argv[0] = (char *)(arg);                                                                                       \
	for (size_t i = 1; i <= n; i++)                                                                                \
		argv[i] = va_arg(args, char *);                                                                        \
	char *const *envp = environ

CPR_EXPORT int execl(const char *path, const char *arg, ...)
{
	LISTED(arg, argv, envp);
	va_end(args);
	return cpr__execve(path, argv, envp);
}

CPR_EXPORT int execlp(const char *file, const char *arg, ...)
{
	LISTED(arg, argv, envp);
	va_end(args);
	return by_file(file, argv, envp);
}

CPR_EXPORT int execle(const char *path, const char *arg, ...)
{
	LISTED(arg, argv, envp);
	envp = va_arg(args, char *const *);
	va_end(args);
	return cpr__execve(path, argv, envp);
}

static __attribute__((noinline)) int at_own(int dir, const char *path, char *const argv[], char *const envp[],
					    int flags)
{
	cleanup_room char *absolute = room_take();
	char link[40];
	struct text t = TEXT_ON(link);

	if (readable_string(path) && !*path && flags & AT_EMPTY_PATH) {
		text_format(&t, "/proc/self/fd/%d", dir);
		if (exec_is_own(link, argv, envp))
			return exec_leave(link, argv, envp);
	} else if (absolute && readable_string(path) && !(flags & AT_SYMLINK_NOFOLLOW) &&
		   !tag_path(dir, path, absolute) && exec_is_own(absolute, argv, envp)) {
		return exec_leave(absolute, argv, envp);
	}
	return next_execveat(dir, path, argv, envp, flags);
}

CPR_EXPORT int execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags)
{
	return roster_elect() ? at_own(dir, path, argv, envp, flags)
			      : FOREIGN(envp, next_execveat(dir, path, argv, envp, flags));
}

CPR_EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	char link[40];
	struct text t = TEXT_ON(link);

	text_format(&t, "/proc/self/fd/%d", fd);
	if (fd >= 0 && exec_is_own(link, argv, envp))
		return exec_leave(link, argv, envp);
	return FOREIGN(envp, next_fexecve(fd, argv, envp));
}
