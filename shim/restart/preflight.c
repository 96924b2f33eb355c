/* SPDX-License-Identifier: MIT */
/* What a restart would certainly lose: looked for in the table, among the children, and in the memory map. */
#define _GNU_SOURCE
#include "restart/preflight.h"

#include "process/roster.h"
#include "process/children.h"
#include "process/guard.h"
#include "base/io.h"
#include "process/identity.h"
#include "process/procinfo.h"
#include "base/next.h"
#include "fd/pending.h"
#include "base/raw.h"
#include "restart/program.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct children {
	int count, first;
	char name[64]; /* of the first */
};

static void preflight_count_child(int pid, void *arg)
{
	struct children *children = arg;
	struct procinfo proc;

	if (!procinfo_look(pid, &proc) || proc.dead || children_knows(pid))
		return;
	if (!children->count++) {
		children->first = pid;
		memcpy(children->name, proc.name, sizeof(proc.name));
	}
}

/* If the table cannot be read, the answer is yes: it refuses nothing then. */
static bool keeps_anything(void)
{
	struct guard_hold hold;
	bool any = false;

	if (!guard_lock(&hold))
		return true;
	pending_resolve_all();
	for (const struct entry *e = table_first(cpr__table); e && !any;
	     e = table_after(e)) /* the first will do: there may be a million */
		any = e->flags & ENTRY_KEPT && object_still(&e->object, e->fd);
	guard_unlock(&hold);
	return any;
}

/*
 * A shell, a supervisor, a privileged parent. The next generation would start its children a second time. They would
 * run beside the first ones, and find their addresses in use.
 */
static bool is_only_a_parent(struct text *why)
{
	struct children children = {0};

	if (keeps_anything() || roster_has_workers())
		return false;
	procinfo_children(getpid(), preflight_count_child, &children);
	if (children.count)
		text_format(why,
			    "it holds no listening socket itself, but has %d child process%s (first: %d %s), and the "
			    "next generation would start them anew beside "
			    "these: start the server itself under cpr-exec, or use exec in the script",
			    children.count, children.count == 1 ? "" : "es", children.first, children.name);
	return children.count;
}

static bool has_sysv_memory(void)
{
	static const char mark[] = " /SYSV";
	enum { OVERLAP = sizeof(mark) - 2 };
	char bytes[1024];
	cleanup_fd int fd = raw_open("/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
	size_t kept = 0;
	ssize_t n;

	while (fd >= 0 && (n = next_sys(SYS_read, fd, bytes + kept, sizeof(bytes) - kept)) > 0) {
		size_t all = kept + (size_t)n;

		if (memmem(bytes, all, mark, sizeof(mark) - 1))
			return true;
		kept = all < OVERLAP ? all : OVERLAP;
		memmove(bytes, bytes + all - kept, kept);
	}
	return false;
}

/*
 * PostgreSQL looks in System V memory for processes of an earlier run. While it finds one, it does not start, or
 * recovers as after a crash.
 */
static bool shares_sysv_memory(struct text *why)
{
	if (!roster_has_workers() || !has_sysv_memory())
		return false;
	text_add(why, "it shares System V memory with processes that it forked: the next generation would find it in "
		      "use while they end, as PostgreSQL does, which then refuses to "
		      "start or recovers as after a crash. Stop and start it");
	return true;
}

int preflight(const char *path, struct text *why)
{
	if (identity_unchanged(why) && !is_only_a_parent(why) && !shares_sysv_memory(why) &&
	    program_would_run(path, why))
		return 0;
	return -EPERM;
}
