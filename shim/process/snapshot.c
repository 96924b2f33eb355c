/* SPDX-License-Identifier: MIT */
/* The snapshot: system calls without libc, and copies into one room, so that few pages are touched. */
#define _GNU_SOURCE
#include "process/snapshot.h"

#include "base/attr.h"
#include "base/fds.h"
#include "base/next.h"
#include "base/pool.h"
#include "base/sys.h"

#include <fcntl.h>
#include <poll.h>
#include <time.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

cpr_touched struct snapshot cpr__snapshot;

enum {
	ROOM = 24 * 1024,  /* what a process takes of it is 3 KiB on average; what does not fit is mapped */
	LOW_FDS = 192,
	PATH_MOST = 4096,
};

static cpr_large _Alignas(16) char room[ROOM];
static cpr_touched size_t room_used;

/* For as long as the process lives. */
static cpr_startup void *snapshot_take_room(size_t size)
{
	void *memory = room + room_used;

	size = (size + 15) & ~(size_t)15;
	if (size > ROOM - room_used)
		return pool_map(size);
	room_used += size;
	return memory;
}

static cpr_startup const char *copy_directory(void)
{
	char *path = room + room_used;
	long n;

	if (ROOM - room_used < PATH_MOST)
		return NULL;
	n = sys(SYS_getcwd, path, PATH_MOST);
	return n > 0 && *path == '/' ? snapshot_take_room((size_t)n) : NULL;
}

/* libc's own copying stands in pages that a short program has not read by then. */
static inline void snapshot_copy(char *to, const char *from, size_t n)
{
#ifdef __x86_64__
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
#else
	memcpy(to, from, n);
#endif
}

static cpr_startup char *snapshot_copy_string(const char *from)
{
	size_t size = 0;
	char *to;

	while (from[size++])
		;
	to = snapshot_take_room(size);
	if (to)
		snapshot_copy(to, from, size);
	return to;
}

static cpr_startup char **snapshot_copy_strings(char *const from[], size_t n)
{
	char **to = snapshot_take_room((n + 1) * sizeof(char *));

	for (size_t i = 0; to && i < n; i++) {
		to[i] = snapshot_copy_string(from[i]);
		if (!to[i])
			return NULL;
	}
	return to;
}

static inline size_t count_strings(char *const strings[])
{
	size_t n = 0;

	while (strings && strings[n])
		n++;
	return n;
}

static inline bool stat_fd(int fd, struct stat *st)
{
#if defined(SYS_fstat) && __SIZEOF_LONG__ == 8
	return !sys(SYS_fstat, fd, st);
#else
	return !fstat(fd, st);
#endif
}

static cpr_startup bool snapshot_is_listening(int fd)
{
	socklen_t len = sizeof(int);
	int on = 0;

	return !sys(SYS_getsockopt, fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) && on;
}

struct seen {
	struct heirloom *fds;
	size_t count, size;
};

static cpr_startup bool make_place(struct seen *seen)
{
	size_t size = seen->size ? 2 * seen->size : 32;
	struct heirloom *more;

	if (seen->count < seen->size)
		return true;
	more = snapshot_take_room(size * sizeof(*more));
	if (!more)
		return false;
	if (seen->count)
		memcpy(more, seen->fds, seen->count * sizeof(*more));
	seen->fds = more;
	seen->size = size;
	return true;
}

static cpr_startup void note_fd(int fd, void *arg)
{
	struct seen *seen = arg;
	struct stat st;

	if (!stat_fd(fd, &st) || !make_place(seen))
		return;
	seen->fds[seen->count++] = (struct heirloom){fd, st.st_dev, st.st_ino};
	if (!S_ISSOCK(st.st_mode))
		return;
	if (fd == STDERR_FILENO)
		cpr__snapshot.stderr_socket = st.st_ino;
	cpr__snapshot.listens |= snapshot_is_listening(fd);
}

/*
 * poll() tells in one call which of the first numbers are open. The obvious code reads a directory of /proc: that makes
 * an inode for each entry, and costs ten times as much. Higher numbers are looked for when a light start ends.
 */
static cpr_startup void note_fds(struct seen *seen)
{
	struct timespec now = {0};
	struct pollfd low[LOW_FDS];

	for (int fd = 0; fd < LOW_FDS; fd++)
		low[fd] = (struct pollfd){.fd = fd};
	if (sys(SYS_ppoll, low, LOW_FDS, &now, NULL, 0) < 0)
		return;
	for (int fd = 0; fd < LOW_FDS; fd++)
		if (!(low[fd].revents & POLLNVAL))
			note_fd(fd, seen);
}

static void note_high(int fd, void *arg)
{
	if (fd >= LOW_FDS && !(next_fcntl(fd, F_GETFD, NULL) & FD_CLOEXEC))
		note_fd(fd, arg);
}

static cpr_startup void note_rights(struct rights *rights)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct stat st;

	sys(SYS_getresuid, &rights->uid[0], &rights->uid[1], &rights->uid[2]);
	sys(SYS_getresgid, &rights->gid[0], &rights->gid[1], &rights->gid[2]);
	sys(SYS_capget, &head, rights->caps);
#if defined(SYS_newfstatat) && __SIZEOF_LONG__ == 8
	if (sys(SYS_newfstatat, AT_FDCWD, "/", &st, 0))
		return;
#else
	if (stat("/", &st))
		return;
#endif
	rights->root_dev = st.st_dev;
	rights->root_ino = st.st_ino;
}

/* No program changes the other limits before it ends its light start, or the change does no harm. */
static cpr_startup void note_limits(void)
{
	static const unsigned char often[] = {RLIMIT_NOFILE, RLIMIT_STACK, RLIMIT_CORE,  RLIMIT_NPROC,
					      RLIMIT_AS,      RLIMIT_DATA, RLIMIT_FSIZE, RLIMIT_MEMLOCK};

	for (size_t i = 0; i < countof(often); i++) {
		struct rlimit *limit = &cpr__snapshot.limits[often[i]];

		cpr__snapshot.limits_known |= (unsigned)!sys(SYS_prlimit64, 0, often[i], NULL, limit) << often[i];
	}
}

cpr_startup int snapshot_take(int argc, char *const argv[], char *const envp[])
{
	struct snapshot *s = &cpr__snapshot;
	struct seen seen = {0};

	s->pid = (int)sys(SYS_getpid);
	sys(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &s->mask, sizeof(s->mask));
	s->umask = (mode_t)sys(SYS_umask, 0);
	sys(SYS_umask, s->umask);
	note_limits();
	s->directory = copy_directory();
	note_rights(&s->rights);
	s->nice = 20 - (int)sys(SYS_getpriority, PRIO_PROCESS, 0); /* the kernel's own form has no negative numbers */
	sys(SYS_prctl, PR_GET_PDEATHSIG, &s->parent_death_signal);
	s->processors_known = sys(SYS_sched_getaffinity, 0, sizeof(s->processors), &s->processors) > 0;
	note_fds(&seen);
	s->fds = seen.fds;
	s->fd_count = seen.count;
	s->fd_room = seen.size;
	s->argv = snapshot_copy_strings(argv, (size_t)argc);
	s->envp = snapshot_copy_strings(envp, count_strings(envp));
	s->taken = s->argv && s->envp;
	return s->taken ? 0 : -ENOMEM;
}

/* ---- when a light start ends ---- */

static bool is_ignored(int sig)
{
	void *action[8] = {NULL}; /* the kernel's struct: its handler is the first of it */

	return !sys(SYS_rt_sigaction, sig, NULL, action, _NSIG / 8) && action[0] == (void *)SIG_IGN;
}

void snapshot_note_signal(int sig)
{
	uint64_t bit = sig > 0 && sig < _NSIG ? UINT64_C(1) << (sig - 1) : 0;

	if (!bit || cpr__snapshot.signals_known & bit)
		return;
	if (is_ignored(sig))
		cpr__snapshot.ignored |= bit;
	cpr__snapshot.signals_known |= bit;
}

void snapshot_complete(void)
{
	struct snapshot *s = &cpr__snapshot;

	for (int sig = 1; sig < _NSIG; sig++)
		snapshot_note_signal(sig);
	for (int i = 0; i < RLIM_NLIMITS; i++)
		if (!(s->limits_known >> i & 1))
			sys(SYS_prlimit64, 0, i, NULL, &s->limits[i]);
}

void snapshot_complete_fds(void)
{
	struct snapshot *s = &cpr__snapshot;
	struct seen seen = {s->fds, s->fd_count, s->fd_room};

	fds_walk(note_high, &seen);
	s->fds = seen.fds;
	s->fd_count = seen.count;
}
