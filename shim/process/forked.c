/* SPDX-License-Identifier: MIT */
/* Descendants that were forked and have not exec'ed. */
#define _GNU_SOURCE
#include "process/forked.h"

#include "base/attr.h"
#include "base/fds.h"
#include "base/io.h"
#include "process/procinfo.h"
#include "base/pool.h"
#include "base/text.h"

#include <errno.h>
#include <string.h>

enum { MOST = 4096, STATUS_SIZE = 4096 };

#define PF_FORKNOEXEC 0x40 /* of the kernel's, as proc(5) has told it in /proc/PID/stat ever since */

bool forked_only(unsigned flags)
{
	return flags & PF_FORKNOEXEC;
}

/* A handler's stack may be small, and one thread looks at a time. */
static cpr_large struct {
	int pid, parent;
	int thread; /* who made it; 0: the kernel does not say, so any of its parent's */
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
	char path[64], stat[256];
	struct text t = TEXT_ON(path);
	const char *at;

	text_format(&t, "/proc/%d/task/%d/stat", wait->pid, tid);
	if (io_read_file(path, stat, sizeof(stat)) > 0 && (at = strrchr(stat, ')')) && at[1])
		wait->waits |= at[2] == 'D';
}

/* Does who made it wait as one does who has called vfork? It may be for a disk as well: then it is asked again. */
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

bool forked_catches(int pid, int sig)
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

bool forked_find(int root, uint64_t since, int sig, enum forked_is (*is)(int pid, uint64_t start_time), void (*found)(int pid, int parent))
{
	int saved_errno = errno, asked = 0, asked_thread = 0;
	bool waits = false, sure = true;

	queued = 0;
	enqueue_all(root);
	for (size_t i = 0; i < queued; i++) {
		int pid = queue[i].pid;
		enum forked_is what;
		struct procinfo proc;

		if (!procinfo_look(pid, &proc) || proc.dead || !forked_only(proc.flags) || proc.start_time < since || (what = is(pid, proc.start_time)) == FORKED_STRANGE)
			continue;
		if (what == FORKED_KNOWN) {
			enqueue_all(pid);
			continue;
		}
		if (asked != queue[i].parent || asked_thread != queue[i].thread) {
			asked = queue[i].parent;
			asked_thread = queue[i].thread;
			waits = waits_in_kernel(asked, asked_thread);
		}
		sure &= !waits;
		/* looked at anew: it was there before its maker was seen not to wait, and so has exec'ed by now if that had waited for it */
		if (waits || !forked_catches(pid, sig) || !procinfo_look(pid, &proc) || !forked_only(proc.flags))
			continue;
		found(pid, queue[i].parent);
		enqueue_all(pid);
	}
	errno = saved_errno;
	return sure && queued < MOST;
}
