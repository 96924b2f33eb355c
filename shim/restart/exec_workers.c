/* SPDX-License-Identifier: MIT */
/*
 * Exec'ed descendants with a kept listener, found by its inode among their descriptors; and those that may have been
 * given connections, which are asked.
 */
#define _GNU_SOURCE
#include "restart/exec_workers.h"

#include "base/full.h"
#include "base/guarded.h"
#include "process/roster.h"
#include "process/children.h"
#include "process/guard.h"
#include "process/leaving.h"
#include "base/io.h"
#include "process/procinfo.h"
#include "base/log.h"
#include "drain/scm_send.h"
#include "base/raw.h"
#include "drain/scm_recv.h"
#include "model/protocol.h"
#include "restart/retire.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { LISTENERS_MAX = 1 << 16, ASKED_MAX = 256 };

/* With the guard held, and too large for a handler's stack. */
static cpr_large const struct entry *listeners[LISTENERS_MAX];
static size_t listener_count;
static cpr_large int family[CHILDREN_MAX]; /* this process's descendants, parents first */
static size_t family_count;

static void note_listeners(void)
{
	listener_count = 0;
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e)) {
		if (!(e->flags & ENTRY_KEPT) ||
		    !(e->kind == ENTRY_DATAGRAM || (e->kind == ENTRY_STREAM && e->flags & ENTRY_LISTENING)))
			continue;
		if (listener_count == LISTENERS_MAX) {
			full_note(FULL_EXEC_LISTENERS, LISTENERS_MAX);
			return;
		}
		listeners[listener_count++] = e;
	}
}

static void add_to_family(int pid, void *arg)
{
	(void)arg;
	if (family_count < CHILDREN_MAX)
		family[family_count++] = pid;
	else
		full_note(FULL_FAMILY, CHILDREN_MAX);
}

static bool exec_workers_is_listener(uint64_t ino, void *arg)
{
	const struct entry **found = arg;

	for (size_t i = 0; i < listener_count; i++)
		if (listeners[i]->object.ino == ino) {
			*found = listeners[i];
			return true;
		}
	return false;
}

/*
 * Calls `each` with every descendant that has exec'ed and holds a listener, but for those of which `skip` says true.
 * Where connections were given away, with all others too, with e NULL: which has got one is not to be seen from here.
 * Holding the guard.
 */
static void exec_workers_walk(bool (*skip)(int pid, void *arg),
		 void (*each)(int pid, const struct procinfo *proc, const struct entry *e, void *arg), void *arg)
{
	assert_guarded();
	note_listeners();
	family_count = 0;
	if (listener_count || atomic_load(&scm_send_any))
		procinfo_children(getpid(), add_to_family, NULL);
	for (size_t i = 0; i < family_count; i++) {
		const struct entry *e = NULL;
		struct procinfo proc;

		/*
		 * Nor its children: it has many threads, and the kernel lists them by the thread. Of apache's old
		 * workers, which are deaf, that took 5 to 18 ms of each restart, with all clients held.
		 */
		if (roster_is_worker(family[i]) || retire_knows(family[i]) || skip(family[i], arg))
			continue;
		leaving_await(family[i]);
		procinfo_children(family[i], add_to_family, NULL);
		/*
		 * this one was forked, has not exec'ed, and is no worker any more: it is about to exec. A signal now
		 * would end a CGI script with its request
		 */
		if (procinfo_look(family[i], &proc) && !proc.dead && !procinfo_is_forked(proc.flags) &&
		    (procinfo_sockets(family[i], exec_workers_is_listener, &e) || atomic_load(&scm_send_any)))
			each(family[i], &proc, e, arg);
	}
}

/* ---- in a drain ---- */

static struct asked {
	int pid;
	int sock;      /* -1: it has not connected yet, or has gone */
	bool shares;   /* a listener, as is to be seen from here */
	bool connected, agreed, passed_on, empty;
} asked[ASKED_MAX];
static size_t asked_count;
static struct protocol_request request;

static struct asked *exec_workers_find_one(int pid)
{
	for (size_t i = 0; i < asked_count; i++)
		if (asked[i].pid == pid)
			return &asked[i];
	return NULL;
}

static bool skip_none(int pid, void *arg)
{
	(void)pid;
	(void)arg;
	return false;
}

/* A signal that is not caught would end it: it must be one of ours, and not only catch the number. */
static void note_if_ours(int pid, const struct procinfo *proc, const struct entry *e, void *arg)
{
	const char *mark = arg;

	(void)proc;
	if (!procinfo_catches(pid, cpr__settings.signal) || !procinfo_maps(pid, mark))
		return;
	if (asked_count == ASKED_MAX)
		full_note(FULL_ASKED, ASKED_MAX);
	else
		asked[asked_count++] = (struct asked){.pid = pid, .sock = -1, .shares = e};
}

static void make_request(void)
{
	request = (struct protocol_request){.magic = PROTOCOL_MAGIC, .verb = PROTOCOL_DRAIN};
	for (size_t i = 0; asked_count && i < listener_count; i++) {
		uint64_t key = listeners[i]->kind == ENTRY_STREAM ? scm_recv_key(listeners[i]->fd) : 0;

		if (key && request.drain.key_count == PROTOCOL_KEYS_MAX)
			full_note(FULL_KEYS, PROTOCOL_KEYS_MAX);
		else if (key)
			request.drain.keys[request.drain.key_count++] = key;
	}
}

size_t exec_workers_find(void)
{
	char mark[32];
	struct text t = TEXT_ON(mark);
	struct guard_hold hold;

	exec_workers_forget();
	if (!guard_lock(&hold))
		return 0;
	text_format(&t, "/memfd:" PROTOCOL_PAGE_NAME "%d.", cpr__settings.signal);
	exec_workers_walk(skip_none, note_if_ours, mark);
	make_request();
	guard_unlock(&hold);
	return asked_count;
}

size_t exec_workers_ring(uint64_t nonce, int64_t deadline, int *pids, size_t most)
{
	size_t n = 0;

	request.drain.nonce = nonce;
	request.drain.deadline = deadline;
	for (size_t i = 0; i < asked_count && n < most; i++)
		if (!sigqueue(asked[i].pid, cpr__settings.signal,
			      (union sigval){.sival_ptr = (void *)(uintptr_t)nonce}))
			pids[n++] = asked[i].pid;
	return n;
}

bool exec_workers_knows(int pid)
{
	return exec_workers_find_one(pid);
}

bool exec_workers_takes(int pid, int sock)
{
	struct asked *a = exec_workers_find_one(pid);

	if (!a || a->connected)
		return false;
	a->connected = true;
	a->sock = io_move_up(sock, PROTOCOL_HIGH);
	request.drain.shares = a->shares;
	io_send(a->sock, &request, sizeof(request), -1);
	return true;
}

/* Of one that shares a listener exec_workers_add warns. */
static void warn_of_refusal(const struct asked *a, const char *answer)
{
	char result[16], reason[128];

	if (a->shares || protocol_get(answer, "result", result, sizeof(result)) || !strcmp(result, "none") ||
	    protocol_get(answer, "reason", reason, sizeof(reason)))
		return;
	log_warn("process %d was given connections, and keeps them: %s", a->pid, reason);
}

int exec_workers_next_refusal(void)
{
	static const char yes[] = "result=ok\n";
	static cpr_large char answer[PROTOCOL_ANSWER_MAX + 1];

	for (size_t i = 0; i < asked_count; i++) {
		struct asked *a = &asked[i];
		ssize_t n = a->sock < 0 ? -EAGAIN : io_receive(a->sock, answer, sizeof(answer) - 1, NULL);

		if (n == -EAGAIN)
			continue;
		answer[n > 0 ? n : 0] = '\0';
		if (!strncmp(answer, yes, sizeof(yes) - 1)) {
			a->agreed = true;
			continue;
		}
		warn_of_refusal(a, answer);
		raw_close(a->sock);
		a->sock = -1;
		if (!a->passed_on)
			return a->pid;
	}
	return 0;
}

void exec_workers_passed_on(int pid, bool empty)
{
	struct asked *a = exec_workers_find_one(pid);

	if (!a)
		return;
	a->passed_on = true;
	a->empty = empty;
}

void exec_workers_dismiss(void)
{
	for (size_t i = 0; i < asked_count; i++)
		if (asked[i].sock >= 0) {
			io_send(asked[i].sock, "", 1, -1);
			kill(asked[i].pid, cpr__settings.signal);
		}
	exec_workers_forget();
}

void exec_workers_forget(void)
{
	for (size_t i = 0; i < asked_count; i++)
		if (asked[i].sock >= 0)
			raw_close(asked[i].sock);
	asked_count = 0;
}

/* ---- at leaving ---- */

static bool exec_workers_is_among(const struct worker *worker, size_t n, int pid)
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

struct adding {
	struct worker *worker;
	size_t *workers, known;
	struct child *child;
	size_t *children, most;
};

/* Has it the signal of an earlier generation, and takes its time? */
static bool is_told(int pid, void *arg)
{
	const struct adding *to = arg;

	if (!exec_workers_is_among(to->worker, to->known, pid))
		return false;
	if (children_shares(pid))
		mark(to->child, to->children, to->most, pid, procinfo_start_time(pid));
	return true;
}

static void exec_workers_add_one(int pid, const struct procinfo *proc, const struct entry *e, void *arg)
{
	const struct adding *to = arg;
	const struct asked *a = exec_workers_find_one(pid);

	if (!e && !(a && a->agreed)) /* it has nothing to do with us */
		return;
	if (e && (!a || !a->passed_on))
		mark(to->child, to->children, to->most, pid, proc->start_time);
	if (*to->workers == to->most)
		return;
	to->worker[(*to->workers)++] =
		(struct worker){.pid = pid, .start_time = proc->start_time, .empty = a && a->empty};
	if (e && (!a || !a->passed_on))
		log_warn("process %d (%s) also listens on %s: its connections end with it", pid, proc->name, e->name);
	else if (!a->passed_on)
		log_warn("process %d (%s) was given connections, and has not passed them on in time: they end with it",
			 pid, proc->name);
}

void exec_workers_add(struct worker *worker, size_t *workers, struct child *child, size_t *children, size_t most)
{
	assert_guarded();
	struct adding to = {worker, workers, *workers, child, children, most};

	exec_workers_walk(is_told, exec_workers_add_one, &to);
}
