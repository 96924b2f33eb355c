/* SPDX-License-Identifier: MIT */
/* Children of the last generation: waited for here, and kept from the program, which would count them as its own. */
#define _GNU_SOURCE
#include "children.h"

#include "guard.h"
#include "kin.h"
#include "log.h"
#include "pool.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct unknown {
	_Atomic int pid; /* 0: gone */
	uint64_t start_time;
} *unknown;
static size_t count;
static int parent; /* whose they are: a forked child has a copy of this list */

_Atomic int children_left;

void children_adopt(const struct child *children, size_t n)
{
	if (!n)
		return;
	unknown = pool_alloc(n * sizeof(*unknown));
	if (!unknown)
		return;
	for (size_t i = 0; i < n; i++) {
		unknown[i].pid = children[i].pid;
		unknown[i].start_time = children[i].start_time;
	}
	count = n;
	parent = getpid();
	atomic_store(&children_left, (int)n);
}

static struct unknown *find(int pid)
{
	for (size_t i = 0; i < count; i++)
		if (atomic_load(&unknown[i].pid) == pid)
			return &unknown[i];
	return NULL;
}

/* Threads of the program may meet here, and our tick. */
static void forget(struct unknown *child, int pid)
{
	if (atomic_compare_exchange_strong(&child->pid, &pid, 0))
		atomic_fetch_sub(&children_left, 1);
}

static bool is_parent(void)
{
	return atomic_load(&children_left) > 0 && getpid() == parent;
}

/*
 * By number, and by its start: the kernel may have done away with it unseen (SIGCHLD is ignored), and given its pid out again. Dead, but not to be waited for yet: its
 * first thread is, and others are still on their way out.
 */
static void reap(struct unknown *child, int pid)
{
	siginfo_t info = {0};
	struct kin kin;

	if (kin_look(pid, &kin) && kin.start_time == child->start_time && kin.parent == parent) {
		if (!kin.dead)
			return;
		if (!waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG) && !info.si_pid)
			return;
	}
	forget(child, pid);
}

int children_reap(void)
{
	int kept = errno;

	if (!is_parent())
		return 0;
	for (size_t i = 0; i < count; i++) {
		int pid = atomic_load(&unknown[i].pid);

		if (pid)
			reap(&unknown[i], pid);
	}
	errno = kept;
	return atomic_load(&children_left);
}

bool children_knows(int pid)
{
	return is_parent() && find(pid);
}

bool children_swallow(int pid, bool gone)
{
	struct unknown *child = is_parent() ? find(pid) : NULL;

	if (!child)
		return false;
	if (gone)
		forget(child, pid);
	log_debug("process %d of the last generation %s: not told", pid, gone ? "has ended" : "was stopped or goes on");
	return true;
}

struct census {
	int strangers, own;
};

static void count_child(int pid, void *arg)
{
	struct census *census = arg;

	*(find(pid) ? &census->strangers : &census->own) += 1;
}

/* Looked at twice: the kernel's list may leave one out when another leaves it at that moment. */
bool children_are_strangers(void)
{
	struct census census = {0};

	if (!is_parent())
		return false;
	for (int i = 0; i < 2 && !census.own; i++)
		kin_children(parent, count_child, &census);
	return census.strangers && !census.own;
}

struct list {
	struct child *at;
	size_t n;
};

static void note(int pid, void *arg)
{
	struct list *list = arg;
	struct kin kin;

	if (list->n < CHILDREN_MAX && kin_look(pid, &kin))
		list->at[list->n++] = (struct child){pid, kin.start_time};
}

size_t children_all(struct child *into)
{
	struct list list = {into, 0};

	kin_children(getpid(), note, &list);
	return list.n;
}

size_t children_unknown(struct child *into)
{
	size_t n = 0;

	if (!children_reap())
		return 0;
	for (size_t i = 0; i < count && n < CHILDREN_MAX; i++) {
		int pid = atomic_load(&unknown[i].pid);

		if (pid)
			into[n++] = (struct child){pid, unknown[i].start_time};
	}
	return n;
}
