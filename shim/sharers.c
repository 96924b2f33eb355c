/* SPDX-License-Identifier: MIT */
/* Exec'ed descendants with a kept listener, found by its inode among their descriptors. */
#define _GNU_SOURCE
#include "sharers.h"

#include "children.h"
#include "forked.h"
#include "guard.h"
#include "kin.h"
#include "log.h"

#include <unistd.h>

enum { LISTENERS_MAX = 1024 };

/* With the guard held, and too large for a handler's stack. */
static cpr_large const struct entry *listeners[LISTENERS_MAX];
static size_t listener_count;
static cpr_large int family[CHILDREN_MAX]; /* this process's descendants, parents first */
static size_t family_count;

static void note_listeners(void)
{
	listener_count = 0;
	for (const struct entry *e = table_first(cpr__table); e && listener_count < LISTENERS_MAX; e = table_after(e))
		if (e->flags & ENTRY_KEPT && (e->kind == ENTRY_DATAGRAM || (e->kind == ENTRY_STREAM && e->flags & ENTRY_LISTENING)))
			listeners[listener_count++] = e;
}

static void add_to_family(int pid, void *arg)
{
	(void)arg;
	if (family_count < CHILDREN_MAX)
		family[family_count++] = pid;
}

static bool is_listener(uint64_t ino, void *arg)
{
	const struct entry **found = arg;

	for (size_t i = 0; i < listener_count; i++)
		if (listeners[i]->object.ino == ino) {
			*found = listeners[i];
			return true;
		}
	return false;
}

static bool is_among(const struct worker *worker, size_t n, int pid)
{
	for (size_t i = 0; i < n; i++)
		if (worker[i].pid == pid)
			return true;
	return false;
}

static void mark(struct child *child, size_t *n, size_t most, int pid, uint64_t start_time)
{
	for (size_t i = 0; i < *n; i++)
		if (child[i].pid == pid) {
			child[i].shares = true;
			return;
		}
	if (*n < most) /* a child's child */
		child[(*n)++] = (struct child){pid, start_time, true};
}

void sharers_add(struct worker *worker, size_t *workers, struct child *child, size_t *children, size_t most)
{
	size_t known = *workers;

	note_listeners();
	if (!listener_count)
		return;
	family_count = 0;
	kin_children(getpid(), add_to_family, NULL);
	for (size_t i = 0; i < family_count; i++) {
		const struct entry *e;
		struct kin kin;

		if (guard_is_worker(family[i])) /* nor its children: it has many threads, and the kernel lists them by the thread */
			continue;
		if (is_among(worker, known, family[i])) { /* it was told by an earlier generation, and takes its time */
			if (children_shares(family[i]))
				mark(child, children, most, family[i], guard_start_time(family[i]));
			continue;
		}
		guard_await_exec(family[i]);
		kin_children(family[i], add_to_family, NULL);
		/* one that has not exec'ed and is no worker any more is about to: told to leave at this moment, it would take a CGI script's request with it */
		if (!kin_look(family[i], &kin) || kin.dead || forked_only(kin.flags) || !kin_sockets(family[i], is_listener, &e))
			continue;
		mark(child, children, most, family[i], kin.start_time);
		if (*workers == most)
			continue;
		worker[(*workers)++] = (struct worker){.pid = family[i], .start_time = kin.start_time};
		log_warn("process %d (%s) also listens on %s: its connections end with it", family[i], kin.name, e->name);
	}
}
