/* SPDX-License-Identifier: MIT */
/* Other processes, by /proc/PID. */
#define _GNU_SOURCE
#include "process/procinfo.h"

#include "base/attr.h"
#include "base/fds.h"
#include "base/io.h"
#include "base/next.h"
#include "base/pool.h"
#include "base/room.h"
#include "base/raw.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static uint64_t procinfo_number_at(const char *at)
{
	uint64_t value = 0;

	for (; *at >= '0' && *at <= '9'; at++)
		value = value * 10 + (uint64_t)(*at - '0');
	return value;
}

/* PID (NAME) STATE PARENT …, 9: flags, 22: the start time. Behind the last ')': a name may hold anything. */
bool procinfo_look(int pid, struct procinfo *proc)
{
	cleanup_room char *stat = room_take();
	char path[40];
	struct text t = TEXT_ON(path), name = TEXT_ON(proc->name);
	const char *begin, *at;
	int saved_errno = errno;

	text_format(&t, "/proc/%d/stat", pid);
	if (!stat || io_read_file(path, stat, ROOM_SIZE) <= 0 || !(begin = strchr(stat, '(')) ||
	    !(at = strrchr(stat, ')')) || !at[1] || !at[2] || !at[3]) {
		errno = saved_errno;
		return false;
	}
	text_add_bytes(&name, begin + 1, (size_t)(at - begin - 1));
	proc->dead = at[2] == 'Z' || at[2] == 'X';
	proc->stopped = at[2] == 'T' || at[2] == 't';
	proc->sleeps = at[2] == 'S';
	proc->parent = (int)procinfo_number_at(at + 4);
	proc->flags = 0;
	for (int field = 2; field < 22 && at; field++) {
		at = strchr(at + 1, ' ');
		if (field == 8 && at)
			proc->flags = (unsigned)procinfo_number_at(at + 1);
	}
	proc->start_time = at ? procinfo_number_at(at + 1) : 0;
	errno = saved_errno;
	return proc->start_time != 0;
}

/* By its pidfd, which asks nothing of /proc. -1: there is no number for it, or no such call, or a filter against it. */
static int procinfo_has_ended(int pid)
{
	cleanup_fd int fd = (int)next_sys(SYS_pidfd_open, pid, 0);
	struct pollfd end = {.fd = fd, .events = POLLIN};

	if (fd < 0)
		return errno == ESRCH ? 1 : -1;
	return raw_poll(&end, 1, 0) > 0;
}

bool procinfo_is_gone(int pid)
{
	int saved_errno = errno;
	struct procinfo proc;
	bool gone;

	if (kill(pid, 0) && errno == ESRCH)
		gone = true;
	else if (procinfo_look(pid, &proc))
		gone = proc.dead;
	else
		gone = pid != getppid() && procinfo_has_ended(pid) == 1; /* a dead parent is no parent any more */
	errno = saved_errno;
	return gone;
}

uint64_t procinfo_start_time(int pid)
{
	struct procinfo proc;

	if (procinfo_look(pid, &proc))
		return proc.dead ? 0 : proc.start_time;
	return procinfo_is_gone(pid) ? 0 : PROCINFO_HIDDEN;
}

int64_t procinfo_cpu_time(int pid)
{
	struct timespec used = {0};
	clockid_t clock;

	if (!clock_getcpuclockid(pid, &clock))
		clock_gettime(clock, &used);
	return used.tv_sec * INT64_C(1000000000) + used.tv_nsec;
}

/* ---- children ---- */

struct search {
	int pid;
	bool listed; /* the kernel has /proc/PID/task/TID/children */
	void (*each)(int child, void *arg);
	void *arg;
};

/* A thread's: it may be gone by now. */
static void read_children(int thread, void *arg)
{
	struct search *search = arg;
	cleanup_room char *bytes = room_take();
	char path[64];
	struct text t = TEXT_ON(path);
	cleanup_fd int fd = -1;
	int child = 0;
	ssize_t n;

	text_format(&t, "/proc/%d/task/%d/children", search->pid, thread);
	fd = raw_open(path, O_RDONLY | O_CLOEXEC, 0);
	search->listed |= fd >= 0;
	while (bytes && fd >= 0 && (n = next_sys(SYS_read, fd, bytes, ROOM_SIZE)) > 0)
		for (ssize_t i = 0; i < n; i++) {
			if (bytes[i] >= '0' && bytes[i] <= '9') {
				child = child * 10 + (bytes[i] - '0');
				continue;
			}
			if (child)
				search->each(child, search->arg);
			child = 0;
		}
}

static void test_parent(int pid, void *arg)
{
	struct search *search = arg;
	struct procinfo proc;

	if (procinfo_look(pid, &proc) && proc.parent == search->pid)
		search->each(pid, search->arg);
}

bool procinfo_thread_children(int pid, int thread, void (*each)(int child, void *arg), void *arg)
{
	struct search search = {pid, false, each, arg};
	int saved_errno = errno;

	read_children(thread, &search);
	errno = saved_errno;
	return search.listed;
}

void procinfo_children(int pid, void (*each)(int child, void *arg), void *arg)
{
	struct search search = {pid, false, each, arg};
	char path[40];
	struct text t = TEXT_ON(path);
	int saved_errno = errno;

	text_format(&t, "/proc/%d/task", pid);
	if (fds_walk_in(path, read_children, &search) && !search.listed)
		fds_walk_in("/proc", test_parent, &search);
	errno = saved_errno;
}

/* ---- sockets ---- */

struct sockets {
	int pid;
	bool found;
	bool (*each)(uint64_t ino, void *arg);
	void *arg;
};

static void read_link(int fd, void *arg)
{
	static const char prefix[] = "socket:[";
	struct sockets *sockets = arg;
	char path[64], link[64];
	struct text t = TEXT_ON(path);
	ssize_t n;

	if (sockets->found)
		return;
	text_format(&t, "/proc/%d/fd/%d", sockets->pid, fd);
	n = readlink(path, link, sizeof(link) - 1);
	if (n <= (ssize_t)sizeof(prefix) || memcmp(link, prefix, sizeof(prefix) - 1))
		return;
	link[n] = '\0';
	sockets->found = sockets->each(procinfo_number_at(link + sizeof(prefix) - 1), sockets->arg);
}

bool procinfo_sockets(int pid, bool (*each)(uint64_t ino, void *arg), void *arg)
{
	struct sockets sockets = {pid, false, each, arg};
	char path[40];
	struct text t = TEXT_ON(path);
	int saved_errno = errno;

	text_format(&t, "/proc/%d/fd", pid);
	fds_walk_in(path, read_link, &sockets);
	errno = saved_errno;
	return sockets.found;
}

/* ---- what it is ---- */

bool procinfo_maps(int pid, const char *what)
{
	cleanup_room char *bytes = room_take();
	char path[40];
	struct text t = TEXT_ON(path);
	cleanup_fd int fd = -1;
	size_t kept = 0, overlap = strlen(what) - 1;
	int before = errno;
	bool found = false;
	ssize_t n;

	text_format(&t, "/proc/%d/maps", pid);
	fd = raw_open(path, O_RDONLY | O_CLOEXEC, 0);
	while (bytes && !found && fd >= 0 && (n = next_sys(SYS_read, fd, bytes + kept, ROOM_SIZE - kept)) > 0) {
		size_t all = kept + (size_t)n;

		found = memmem(bytes, all, what, overlap + 1);
		kept = all < overlap ? all : overlap;
		memmove(bytes, bytes + all - kept, kept);
	}
	errno = before;
	return found;
}

bool procinfo_descends(int pid, int from)
{
	struct procinfo proc;

	for (int depth = 0; depth < 16 && pid > 1 && procinfo_look(pid, &proc); depth++) {
		if (proc.parent == from)
			return true;
		pid = proc.parent;
	}
	return false;
}

/* ---- descendants that were forked and have not exec'ed ---- */

enum { MOST = 4096, STATUS_SIZE = 4096 };

#define PF_FORKNOEXEC 0x40 /* of the kernel's, as proc(5) has told it in /proc/PID/stat ever since */

bool procinfo_is_forked(unsigned flags)
{
	return flags & PF_FORKNOEXEC;
}

/* A handler's stack may be small, and one thread looks at a time. */
static cpr_large struct {
	int pid, parent;
	int thread; /* which made it; 0: the kernel does not say, so any of its parent's */
} queue[MOST];
static size_t queued;
static int parent, thread;
static bool listed;

static void enqueue(int pid, void *arg)
{
	(void)arg;
	if (queued < MOST) {
		queue[queued].pid = pid;
		queue[queued].parent = parent;
		queue[queued++].thread = thread;
	}
}

static void enqueue_of(int tid, void *arg)
{
	(void)arg;
	thread = tid;
	listed |= procinfo_thread_children(parent, tid, enqueue, NULL);
}

static void enqueue_all(int pid)
{
	char path[40];
	struct text t = TEXT_ON(path);

	parent = pid;
	listed = false;
	text_format(&t, "/proc/%d/task", pid);
	if (!fds_walk_in(path, enqueue_of, NULL) || listed)
		return;
	thread = 0;
	procinfo_children(pid, enqueue, NULL);
}

struct wait {
	int pid;
	bool waits;
};

static void look_at_thread(int tid, void *arg)
{
	struct wait *wait = arg;
	cleanup_room char *stat = room_take();
	char path[64];
	struct text t = TEXT_ON(path);
	const char *at;

	text_format(&t, "/proc/%d/task/%d/stat", wait->pid, tid);
	if (stat && io_read_file(path, stat, ROOM_SIZE) > 0 && (at = strrchr(stat, ')')) && at[1])
		wait->waits |= at[2] == 'D';
}

/* Does its maker wait as a caller of vfork does? It may be for a disk as well: then it is asked again. */
static bool waits_in_kernel(int pid, int tid)
{
	struct wait wait = {pid, false};
	char path[40];
	struct text t = TEXT_ON(path);

	if (tid) {
		look_at_thread(tid, &wait);
		return wait.waits;
	}
	text_format(&t, "/proc/%d/task", pid);
	return !fds_walk_in(path, look_at_thread, &wait) || wait.waits;
}

bool procinfo_catches(int pid, int sig)
{
	static const char field[] = "\nSigCgt:\t";
	char path[40], *status = pool_map(STATUS_SIZE); /* two threads may ask at once */
	struct text t = TEXT_ON(path);
	uint64_t mask = 0;
	const char *at = NULL;

	if (!status)
		return false;
	text_format(&t, "/proc/%d/status", pid);
	if (io_read_file(path, status, STATUS_SIZE) > 0)
		at = strstr(status, field);
	for (at = at ? at + sizeof(field) - 1 : ""; (*at >= '0' && *at <= '9') || (*at >= 'a' && *at <= 'f'); at++)
		mask = mask << 4 | (uint64_t)(*at <= '9' ? *at - '0' : *at - 'a' + 10);
	pool_unmap(status, STATUS_SIZE);
	return mask >> (sig - 1) & 1;
}

bool procinfo_find_forked(int root, uint64_t since, int sig, enum procinfo_known (*is)(int pid, uint64_t start_time),
			  void (*found)(int pid, int parent))
{
	int saved_errno = errno, asked = 0, asked_thread = 0;
	bool waits = false, sure = true;

	queued = 0;
	enqueue_all(root);
	for (size_t i = 0; i < queued; i++) {
		int pid = queue[i].pid;
		enum procinfo_known what;
		struct procinfo proc;

		if (!procinfo_look(pid, &proc) || proc.dead || !procinfo_is_forked(proc.flags) ||
		    proc.start_time < since || (what = is(pid, proc.start_time)) == PROCINFO_STRANGE)
			continue;
		if (what == PROCINFO_KNOWN) {
			enqueue_all(pid);
			continue;
		}
		if (asked != queue[i].parent || asked_thread != queue[i].thread) {
			asked = queue[i].parent;
			asked_thread = queue[i].thread;
			waits = waits_in_kernel(asked, asked_thread);
		}
		sure &= !waits;
		/*
		 * look again: it existed before its parent was seen not to wait. If the parent had waited for it, it
		 * has exec'ed by now
		 */
		if (waits || !procinfo_catches(pid, sig) || !procinfo_look(pid, &proc) ||
		    !procinfo_is_forked(proc.flags))
			continue;
		found(pid, queue[i].parent);
		enqueue_all(pid);
	}
	errno = saved_errno;
	return sure && queued < MOST;
}
