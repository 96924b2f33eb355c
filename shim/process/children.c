/* SPDX-License-Identifier: MIT */
/* Children of the last generation: waited for here, and kept from the program, which would count them as its own. */
#define _GNU_SOURCE
#include "process/children.h"

#include "process/roster.h"
#include "base/full.h"
#include "base/io.h"
#include "process/procinfo.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/raw.h"
#include "model/protocol.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REMEMBERED_MS = 2000, LEFT_MS = 1000 };

static struct unknown {
	int pid;
	_Atomic int64_t gone_at; /* CLOCK_MONOTONIC, ns; 0: it is there */
	uint64_t start_time;
	int64_t dead_at; /* when children_tidy first saw it dead; 0: not yet */
	int sharer; /* the pid, if it shares a listener; it may be no child of ours, but a child's */
} *unknown;
static size_t count;
static int parent; /* the process that has these children: a forked child has a copy of this list */

cpr_touched _Atomic int children_left;

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
		unknown[i].sharer = children[i].shares ? children[i].pid : 0;
	}
	count = n;
	parent = getpid();
	atomic_store(&children_left, (int)n);
	roster_when_stranger(children_knows);
}

/*
 * A wait() to which the kernel returned one may not be done yet when our tick, or another thread's wait(), sees that it
 * is gone. So it stays in the list a moment longer, and no more: its pid is free.
 */
static struct unknown *children_find(int pid)
{
	for (size_t i = 0; i < count; i++) {
		int64_t gone_at = atomic_load(&unknown[i].gone_at);

		if (unknown[i].pid == pid && (!gone_at || io_now() - gone_at < REMEMBERED_MS * INT64_C(1000000)))
			return &unknown[i];
	}
	return NULL;
}

static bool children_is_gone(const struct unknown *child)
{
	return atomic_load(&child->gone_at) != 0;
}

static void set_gone(struct unknown *child)
{
	int64_t there = 0;

	if (atomic_compare_exchange_strong(&child->gone_at, &there, io_now()))
		atomic_fetch_sub(&children_left, 1);
}

static bool shares(const struct unknown *child)
{
	return child->sharer && procinfo_start_time(child->sharer) == child->start_time;
}

bool children_shares(int pid)
{
	const struct unknown *child = children_find(pid);

	return child && shares(child);
}

bool children_share(void)
{
	for (size_t i = 0; i < count; i++)
		if (shares(&unknown[i]))
			return true;
	return false;
}

void children_warn(struct text *t)
{
	char line[256];
	struct procinfo proc;

	for (size_t i = 0; i < count && t->used < t->size / 2; i++) {
		struct text warning = TEXT_ON(line);

		if (!shares(&unknown[i]) || !procinfo_look(unknown[i].sharer, &proc))
			continue;
		text_format(&warning,
			    "process %d (%s) of the last generation also listens, and is no worker that could pass its "
			    "connections on: they end with it",
			    unknown[i].sharer, proc.name);
		protocol_put(t, "warning", line);
	}
}

static bool is_parent(void)
{
	return count && getpid() == parent;
}

/*
 * By number, and by its start: the kernel may have done away with it unseen (SIGCHLD is ignored), and given its pid out
 * again. Dead, but not to be waited for yet: its first thread is, and others are still on their way out.
 */
static void children_reap_one(struct unknown *child, int64_t left_ns)
{
	siginfo_t info = {0};
	struct procinfo proc;

	if (procinfo_look(child->pid, &proc) && proc.start_time == child->start_time && proc.parent == parent) {
		if (!proc.dead)
			return;
		child->dead_at = child->dead_at ? child->dead_at : io_now();
		if (io_now() - child->dead_at < left_ns)
			return;
		if (!raw_waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG) && !info.si_pid)
			return;
	}
	set_gone(child);
}

static int reap_all(int64_t left_ns)
{
	int saved_errno = errno;

	if (!atomic_load(&children_left) || !is_parent())
		return 0;
	for (size_t i = 0; i < count; i++)
		if (!children_is_gone(&unknown[i]))
			children_reap_one(&unknown[i], left_ns);
	errno = saved_errno;
	return atomic_load(&children_left);
}

int children_reap(void)
{
	return reap_all(0);
}

int children_tidy(void)
{
	return reap_all(LEFT_MS * INT64_C(1000000));
}

bool children_knows(int pid)
{
	return is_parent() && children_find(pid);
}

bool children_swallow(int pid, bool gone)
{
	struct unknown *child = is_parent() ? children_find(pid) : NULL;

	if (!child)
		return false;
	if (gone)
		set_gone(child);
	log_debug("process %d of the last generation %s: not told", pid, gone ? "has ended" : "was stopped or goes on");
	return true;
}

struct census {
	int strangers, own;
};

static void children_count_one(int pid, void *arg)
{
	struct census *census = arg;

	*(children_find(pid) ? &census->strangers : &census->own) += 1;
}

/* Looked at twice: the kernel's list may leave one out when another leaves it at that moment. */
bool children_are_strangers(void)
{
	struct census census = {0};

	if (!is_parent())
		return false;
	for (int i = 0; i < 2 && !census.own; i++)
		procinfo_children(parent, children_count_one, &census);
	return census.strangers && !census.own;
}

struct list {
	struct child *at;
	size_t n;
};

static void children_note(int pid, void *arg)
{
	struct list *list = arg;
	struct procinfo proc;

	if (list->n == CHILDREN_MAX)
		full_note(FULL_CHILDREN, CHILDREN_MAX);
	else if (procinfo_look(pid, &proc))
		list->at[list->n++] = (struct child){pid, proc.start_time, false};
}

size_t children_all(struct child *into)
{
	struct list list = {into, 0};

	procinfo_children(getpid(), children_note, &list);
	return list.n;
}

static bool is_sharer(const struct child *list, size_t n, const struct child *child)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].pid == child->pid && list[i].start_time == child->start_time)
			return list[i].shares;
	return false;
}

static bool is_in(const struct child *list, size_t n, int pid)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].pid == pid)
			return true;
	return false;
}

void children_adopt_all(const struct child *listed, size_t n)
{
	size_t size = 2 * CHILDREN_MAX * sizeof(struct child), there;
	struct child *all = pool_map(size);

	if (!all) {
		children_adopt(listed, n);
		return;
	}
	there = children_all(all);
	for (size_t i = 0; i < there; i++)
		all[i].shares = is_sharer(listed, n, &all[i]);
	for (size_t i = 0; i < n && there < 2 * CHILDREN_MAX; i++) /* a child's child that shares is none of ours */
		if (!is_in(all, there, listed[i].pid))
			all[there++] = listed[i];
	if (there == 2 * CHILDREN_MAX)
		full_note(FULL_CHILDREN, 2 * CHILDREN_MAX);
	children_adopt(all, there);
	pool_unmap(all, size);
}

size_t children_unknown(struct child *into)
{
	size_t n = 0;

	if (!children_reap())
		return 0;
	for (size_t i = 0; i < count && n < CHILDREN_MAX; i++)
		if (!children_is_gone(&unknown[i]))
			into[n++] = (struct child){unknown[i].pid, unknown[i].start_time, unknown[i].sharer != 0};
	if (n == CHILDREN_MAX)
		full_note(FULL_CHILDREN, CHILDREN_MAX);
	return n;
}
