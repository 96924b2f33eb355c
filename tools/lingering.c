/* SPDX-License-Identifier: MIT */
/*
 * While we hold a connection that the server has closed, its client does not see the end, and may send a request in
 * vain. So the first checks follow each other closely: a server closes idle connections within some milliseconds.
 */
#define _GNU_SOURCE
#include "lingering.h"

#include "base/attr.h"
#include "base/fds.h"
#include "base/io.h"
#include "model/protocol.h"
#include "own.h"
#include "proc.h"
#include "remote.h"

#include <errno.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MS INT64_C(1000000)

enum {
	WATCHED_MS = 100, /* nothing else is done for so long, while the server closes most of them */
	QUIET_MS = 5,     /* ... or until none has been closed for so long */
	AT_ONCE_US = 50,  /* between two looks, while connections are being closed */
	AT_ONCE_MS = 20,  /* for so long after the last of them */
	CLOSELY_US = 200,
	CLOSELY_MS = 2000, /* until the first connection is closed, or so long */
	CLOSING_MS = 500,  /* ... and for so long from the last one on */
	LATER_MS = 5,      /* between two looks, later */
	TAKEN_MS = 5,      /* between two looks for new connections, until the first one is closed */
	HELD_MS = 10000,   /* what is open after so long ends as the server ends it */
	LINGER_MS = 1000,  /* after our FIN: what the client sends is read for so long */
	SPARE = 256,       /* descriptors that are left for everything else */
	LOOKS_COST = 4,    /* later, looks take a fifth of the time at most, whatever one costs */
	READS_MAX = 16,    /* of one connection in one look */
	CHILDREN_MAX = 256,
	DEPTH_MAX = 16,
};

struct held {
	int fd;
	uint64_t ino;
	pid_t pid; /* it was there, at this number */
	int number;
	int64_t linger_by; /* the server has closed it: our FIN is out, and we close it then; 0: not */
	bool found;
};

struct lingering {
	struct lingering *next;
	int64_t look_at;
	struct held *all; /* by inode */
	size_t count, room;
	pid_t *pids;
	size_t pid_count;
	int64_t began;
	int64_t closed_at; /* the last one that was; 0: none yet */
	int64_t taken_at;  /* its connections were last looked for */
	uint64_t *keys;    /* of the listeners */
	size_t key_count;
	bool judged; /* the server takes what it closes out of its epoll instances */
};

/* ---- taking ---- */

struct walk {
	struct lingering *l;
	pid_t pid;
	int pidfd, most;
	size_t known; /* of the list: what was taken before */
};

static bool is_accepted(const struct walk *w, int fd)
{
	struct sockaddr_storage here, there;
	socklen_t here_len = sizeof(here), there_len = sizeof(there), len = sizeof(int);
	int type = 0;
	uint64_t key;

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) || type != SOCK_STREAM ||
	    getsockname(fd, (struct sockaddr *)&here, &here_len) ||
	    getpeername(fd, (struct sockaddr *)&there, &there_len))
		return false;
	key = protocol_key((struct sockaddr *)&here, here_len);
	for (size_t i = 0; key && i < w->l->key_count; i++)
		if (w->l->keys[i] == key)
			return true;
	return false;
}

static int by_inode(const void *a, const void *b)
{
	const struct held *one = a, *other = b;

	return (one->ino > other->ino) - (one->ino < other->ino);
}

static void take_connection(int number, void *arg)
{
	struct walk *w = arg;
	struct lingering *l = w->l;
	const struct held like = {.ino = remote_socket(w->pid, number)};
	bool known = bsearch(&like, l->all, w->known, sizeof(like), by_inode);
	cleanup_fd int fd = like.ino && !known ? remote_descriptor(w->pidfd, number) : -1;

	if (fd < 0 || fd >= w->most || !is_accepted(w, fd))
		return;
	if (l->count == l->room) {
		size_t room = l->room ? 2 * l->room : 64;
		struct held *longer = reallocarray(l->all, room, sizeof(*longer));

		if (!longer)
			return;
		l->all = longer;
		l->room = room;
	}
	l->all[l->count++] = (struct held){.fd = fd, .ino = like.ino, .pid = w->pid, .number = number};
	fd = -1;
}

/* Processes may share a connection: one duplicate is enough. */
static void sort(struct lingering *l)
{
	size_t n = 0;

	if (l->count)
		qsort(l->all, l->count, sizeof(*l->all), by_inode);
	for (size_t i = 0; i < l->count; i++)
		if (n && l->all[n - 1].ino == l->all[i].ino)
			io_close(&l->all[i].fd);
		else
			l->all[n++] = l->all[i];
	l->count = n;
}

/* What it has accepted since the last time, too. */
static void take(struct lingering *l)
{
	struct rlimit limit = {0};
	struct walk w = {.l = l, .known = l->count};

	getrlimit(RLIMIT_NOFILE, &limit);
	w.most = limit.rlim_cur > INT32_MAX ? INT32_MAX : (int)limit.rlim_cur - SPARE;
	for (size_t i = 0; i < l->pid_count; i++) {
		char name[32];
		cleanup_fd int pidfd = remote_open(l->pids[i]);

		snprintf(name, sizeof(name), "/proc/%d/fd", (int)l->pids[i]);
		w.pid = l->pids[i];
		w.pidfd = pidfd;
		if (pidfd >= 0)
			fds_walk_in(name, take_connection, &w);
	}
	sort(l);
	l->taken_at = io_now();
}

static void free_one(struct lingering *l)
{
	for (size_t i = 0; i < l->count; i++)
		io_close(&l->all[i].fd);
	free(l->all);
	free(l->pids);
	free(l->keys);
	free(l);
}

static void *copy_of(const void *bytes, size_t n)
{
	void *copy = malloc(n + 1);

	return copy ? memcpy(copy, bytes, n) : NULL;
}

void lingering_begin(struct lingering **all, const pid_t *pids, size_t pid_count, const uint64_t *keys,
		     size_t key_count)
{
	struct lingering *l = calloc(1, sizeof(*l));

	if (!l)
		return;
	l->pids = copy_of(pids, pid_count * sizeof(*pids));
	l->keys = copy_of(keys, key_count * sizeof(*keys));
	l->pid_count = l->pids ? pid_count : 0;
	l->key_count = l->keys ? key_count : 0;
	l->next = *all;
	*all = l;
	take(l);
	l->began = l->look_at = l->taken_at;
}

/* ---- which of them the server has closed ---- */

static void mark(int number, void *arg)
{
	struct walk *w = arg;
	const struct held key = {.ino = remote_socket(w->pid, number)};
	struct held *h = key.ino ? bsearch(&key, w->l->all, w->l->count, sizeof(key), by_inode) : NULL;

	if (!h)
		return;
	h->found = true;
	h->pid = w->pid;
	h->number = number;
}

static bool was_there(const struct lingering *l, pid_t pid)
{
	for (size_t i = 0; i < l->pid_count; i++)
		if (l->pids[i] == pid)
			return true;
	return false;
}

static void look_into(struct lingering *l, pid_t pid, int depth)
{
	struct walk w = {.l = l, .pid = pid};
	pid_t children[CHILDREN_MAX];
	size_t count = proc_children(pid, children, CHILDREN_MAX);
	char name[32];

	snprintf(name, sizeof(name), "/proc/%d/fd", (int)pid);
	fds_walk_in(name, mark, &w);
	for (size_t i = 0; i < count && depth < DEPTH_MAX; i++)
		if (!was_there(l, children[i]))
			look_into(l, children[i], depth + 1);
}

/* kcmp(2) costs a tenth of what a look into /proc does. Not every kernel has it. */
static bool is_there(const struct held *h)
{
	long r = syscall(SYS_kcmp, getpid(), h->pid, KCMP_FILE, h->fd, h->number);
	char name[64], link[64];

	if (r >= 0 || errno == EBADF || errno == ESRCH)
		return !r;
	snprintf(name, sizeof(name), "/proc/%d/fd/%d", (int)h->pid, h->number);
	if (readlink(name, link, sizeof(link)) < 0 && (errno == EACCES || errno == EPERM))
		return true; /* a look that is refused is no close: it is let go at the end of HELD_MS, untouched */
	return remote_is_socket(h->pid, h->number, h->ino);
}

/* How many are gone: closed under each number, and in each process that was or is there. */
static size_t find_closed(struct lingering *l)
{
	size_t gone = 0;

	for (size_t i = 0; i < l->count; i++) {
		struct held *h = &l->all[i];

		h->found = h->linger_by || is_there(h);
		gone += !h->found;
	}
	if (!gone)
		return 0;
	for (size_t i = 0; i < l->pid_count; i++)
		look_into(l, l->pids[i], 0);
	gone = 0;
	for (size_t i = 0; i < l->count; i++)
		gone += !l->all[i].found;
	return gone;
}

/* ---- the end of one ---- */

static void drop(struct lingering *l, size_t i)
{
	io_close(&l->all[i].fd);
	memmove(&l->all[i], &l->all[i + 1], (--l->count - i) * sizeof(*l->all));
}

/* What has come is read, so that close(2) sends no RST. True: nothing more comes. */
static bool read_away(int fd)
{
	char bytes[16384];
	ssize_t n = 1;

	for (int i = 0; i < READS_MAX && n > 0; i++)
		n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	return !n;
}

/*
 * A server may leave it to close(2) to take a connection out of its epoll instance. Our duplicate keeps it there, and
 * the server would be woken for a connection that it has forgotten: nothing of it is held then.
 */
static bool is_safe(struct lingering *l, const struct held *h)
{
	struct proc proc;

	if (l->judged)
		return true;
	if (remote_is_polled(h->pid, h->number, h->ino))
		return false;
	l->judged = !proc_read(h->pid, &proc) && proc.state != 'Z'; /* of a dead one the kernel has closed all */
	return true;
}

static bool end_closed(struct lingering *l, int64_t now)
{
	for (size_t i = 0; i < l->count; i++)
		if (!l->all[i].found) {
			shutdown(l->all[i].fd, SHUT_WR); /* all of them first: their clients wait for it */
			l->all[i].linger_by = now + LINGER_MS * MS;
		}
	for (size_t i = l->count; i--;) {
		struct held *h = &l->all[i];

		if (!h->found && !is_safe(l, h))
			return false;
		if (h->linger_by && (read_away(h->fd) || now >= h->linger_by))
			drop(l, i);
	}
	return true;
}

/* False: nothing is left to look at. */
static bool look(struct lingering *l, int64_t now)
{
	int64_t age = now - l->began, since, pause, cost;
	bool closely;
	size_t gone;

	if (!l->closed_at && now - l->taken_at > TAKEN_MS * MS) /* it accepts until it gets its signal to leave */
		take(l);
	gone = find_closed(l);
	if (gone)
		l->closed_at = now;
	since = l->closed_at ? l->closed_at : l->began;
	closely = now - since < (l->closed_at ? CLOSING_MS : CLOSELY_MS) * MS;
	if (!end_closed(l, now) || age > HELD_MS * MS || (!l->count && !closely))
		return false;
	cost = io_now() - now;
	pause = !closely ? LATER_MS * MS : now - since < AT_ONCE_MS * MS ? AT_ONCE_US * 1000 : CLOSELY_US * 1000;
	if (!closely && pause < LOOKS_COST * cost)
		pause = LOOKS_COST * cost;
	else if (gone) /* it is about to close the others */
		pause = 0;
	l->look_at = now + cost + pause;
	return true;
}

void lingering_tick(struct lingering **all, int64_t now)
{
	while (*all) {
		struct lingering *l = *all;

		if (now < l->look_at || look(l, now)) {
			all = &l->next;
			continue;
		}
		*all = l->next;
		free_one(l);
	}
}

static void watch(struct lingering **all, void (*between)(void *), void *arg)
{
	int64_t until = io_now() + WATCHED_MS * MS, now;

	while (*all && (now = io_now()) < until) {
		struct timespec pause = {0};

		between(arg);
		lingering_tick(all, now);
		if (!*all || ((*all)->closed_at && now - (*all)->closed_at > QUIET_MS * MS))
			return;
		now = io_now();
		pause.tv_nsec = (*all)->look_at > now ? (*all)->look_at - now : 0;
		nanosleep(&pause, NULL);
	}
}

/*
 * On a busy machine the next look would come milliseconds late, and a third of the clients would have sent in vain.
 * Only root may do this; nothing is forked meanwhile, so no child gets it.
 */
void lingering_watch(struct lingering **all, void (*between)(void *), void *arg)
{
	const struct sched_param first = {.sched_priority = 1};
	struct sched_param before = {0};
	int policy = sched_getscheduler(0);
	bool raised;

	if (!*all || !(*all)->count)
		return;
	raised = policy >= 0 && !sched_getparam(0, &before) && !sched_setscheduler(0, SCHED_FIFO, &first);
	watch(all, between, arg);
	if (raised)
		sched_setscheduler(0, policy, &before);
}

int64_t lingering_due(const struct lingering *all)
{
	int64_t at = 0;

	for (; all; all = all->next)
		at = !at || all->look_at < at ? all->look_at : at;
	return at;
}
