/* SPDX-License-Identifier: MIT */
/*
 * System calls of a generation under a seccomp filter, before the kernel makes them. The kernel reads the arguments of
 * a continued call once more, and they may have changed meanwhile. So they decide nothing: what is held is judged by
 * the socket itself.
 */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include "proc.h"
#include "remote.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* One call that waits for our answer. */
struct notice {
	struct supervisor *s;
	struct generation *g;
	struct seccomp_notif call;
	int pidfd;
	int sock; /* a duplicate of its first argument; -1: it has none */
	struct object object;
	char name[TAG_NAME_MAX + 1];
};

/* Does it wait still? Else its thread may have ended, and the numbers may be another's. */
static bool waits(const struct notice *n)
{
	return !ioctl(n->g->notices, SECCOMP_IOCTL_NOTIF_ID_VALID, &n->call.id);
}

static bool is_listening(int fd)
{
	int listens = 0;
	socklen_t len = sizeof(listens);

	return !getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) && listens;
}

static bool is_v6only(int fd)
{
	int only = 0;
	socklen_t len = sizeof(only);

	return !getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, &len) && only;
}

/* ---- the socket, and what it asks for ---- */

static bool take_socket(struct notice *n)
{
	int number = (int)n->call.data.args[0];

	n->sock = remote_descriptor(n->pidfd, number);
	if (n->sock == -EPERM && !n->s->says_no_rights) {
		n->s->says_no_rights = true;
		supervisor_say("PID %d: its listeners cannot be taken: it has rights that this user does not have",
			       (int)n->call.pid);
	}
	return n->sock >= 0 && waits(n) && !object_of(n->sock, &n->object) && n->object.domain >= 0;
}

/* A path that is not absolute is the program's directory's, not ours. */
static bool make_absolute(const struct notice *n, struct sockaddr_storage *address, socklen_t *len)
{
	struct sockaddr_un *un = (struct sockaddr_un *)address;
	char path[109], absolute[TAG_NAME_MAX + 1];

	if (address->ss_family != AF_UNIX || !tag_unix_path((struct sockaddr *)address, *len, path) || *path == '/')
		return true;
	if (remote_path((pid_t)n->call.pid, AT_FDCWD, path, absolute) || strlen(absolute) >= sizeof(un->sun_path))
		return false;
	strcpy(un->sun_path, absolute);
	*len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(absolute) + 1);
	return true;
}

/* The address is read once: what it says is what is decided on. */
static bool read_name(struct notice *n)
{
	struct sockaddr_storage address = {0};
	socklen_t len = (socklen_t)n->call.data.args[2];

	return len >= sizeof(sa_family_t) && len <= sizeof(address) &&
	       !remote_read((pid_t)n->call.pid, n->call.data.args[1], &address, len) && waits(n) &&
	       make_absolute(n, &address, &len) && !tag_socket(&n->object, (struct sockaddr *)&address, len, n->name);
}

/* By what the kernel says: a socket that was not seen at bind. */
static bool name_by_kernel(struct notice *n)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);

	return !getsockname(n->sock, (struct sockaddr *)&address, &len) && make_absolute(n, &address, &len) &&
	       !tag_socket(&n->object, (struct sockaddr *)&address, len, n->name);
}

static bool has_port(const char *name)
{
	const char *colon = strrchr(name, ':');

	return !strncmp(name, "unix", 4) || (colon && strcmp(colon, ":0"));
}

/* ---- what is kept ---- */

static void note_path(const struct notice *n, struct entry *e)
{
	const char *path = strchr(e->name, ':') + 1;
	struct stat st;

	if (n->object.domain != AF_UNIX || *path != '/' || remote_stat((pid_t)n->call.pid, path, &st))
		return;
	e->path_dev = st.st_dev;
	e->path_ino = st.st_ino;
}

/* Is the file of a unix socket the one that it was bound to? */
static bool path_is_its(const struct notice *n, const struct entry *e)
{
	const char *path = strchr(e->name, ':') + 1;
	struct stat st;

	return n->object.domain != AF_UNIX || *path == '@' ||
	       (!remote_stat((pid_t)n->call.pid, path, &st) && st.st_dev == e->path_dev && st.st_ino == e->path_ino);
}

static void keep(struct notice *n, bool stream)
{
	struct entry like = {.kind = stream ? ENTRY_STREAM : ENTRY_DATAGRAM, .object = n->object, .backlog = -1};
	struct entry *e;

	like.flags = (stream ? ENTRY_LISTENING : 0) | (is_v6only(n->sock) ? ENTRY_V6ONLY : 0);
	like.queue = -1;
	like.name = n->name;
	if (!rules_keep(&n->s->rules, &like))
		return;
	e = holdings_keep(&n->s->holdings, &like, &n->sock);
	if (e)
		note_path(n, e);
}

static bool is_same_kind(const struct notice *n, const struct entry *e)
{
	return n->object.domain == e->object.domain && n->object.type == e->object.type &&
	       n->object.protocol == e->object.protocol &&
	       (n->object.domain != AF_INET6 || is_v6only(n->sock) == is_v6only(e->fd));
}

/* Has this generation got it, and not closed it since? True if that cannot be seen. */
static bool is_taken(const struct generation *g, const struct entry *e)
{
	struct bound *b = bounds_find(&g->bounds, e->object.ino);

	return b && (b->kept || b->listens) && notices_holds(g, e->object.ino) != 0;
}

/* The first of the name that is not taken; the ids are in the order in which they were asked for. */
static struct entry *find_kept(const struct notice *n)
{
	struct entry *best = NULL;

	for (struct entry *e = table_first(n->s->holdings.table); e; e = table_after(e))
		if (!strcmp(e->name, n->name) && (!best || e->id < best->id) && is_same_kind(n, e) &&
		    (e->kind != ENTRY_STREAM || is_listening(e->fd)) && !is_taken(n->g, e) && path_is_its(n, e))
			best = e;
	return best;
}

/* Puts it in the place of the program's own, with the flags of that. */
static int put(const struct notice *n, const struct entry *e)
{
	int number = (int)n->call.data.args[0], flags = remote_flags((pid_t)n->call.pid, number);
	struct seccomp_notif_addfd add = {.id = n->call.id,
					  .flags = SECCOMP_ADDFD_FLAG_SETFD,
					  .srcfd = (unsigned)e->fd,
					  .newfd = (unsigned)number,
					  .newfd_flags = flags < 0 ? O_CLOEXEC : (unsigned)flags & O_CLOEXEC};
	int status = fcntl(n->sock, F_GETFL);

	if (status >= 0)
		fcntl(e->fd, F_SETFL, status);
	return ioctl(n->g->notices, SECCOMP_IOCTL_NOTIF_ADDFD, &add) < 0 ? -errno : 0;
}

static struct bound *note_bound(const struct notice *n, uint64_t ino)
{
	struct bound *b = bounds_add(&n->g->bounds, ino, n->name);

	if (b) {
		b->pid = (pid_t)n->call.pid;
		b->number = (int)n->call.data.args[0];
	}
	return b;
}

/* ---- the calls: true if ours is the answer, and it is 0 ---- */

static bool take_bind(struct notice *n)
{
	struct bound *b;
	struct entry *e;

	if (!take_socket(n) || !read_name(n))
		return false;
	b = bounds_find(&n->g->bounds, n->object.ino);
	if (b && b->kept) /* a signal has made the call come once more, after we had put ours there */
		return !strcmp(b->name, n->name);
	e = find_kept(n);
	if (e && !put(n, e)) {
		b = note_bound(n, e->object.ino);
		if (b)
			b->kept = true;
		if (b && e->kind == ENTRY_DATAGRAM)
			gateless_listens(n->s, n->g, b);
		return true;
	}
	b = note_bound(n, n->object.ino);
	if (b && n->object.type == SOCK_DGRAM && has_port(n->name)) {
		keep(n, false);
		gateless_listens(n->s, n->g, b);
	}
	return false;
}

/* Whether the kernel lets it listen shows later (notices_settle). */
static bool take_listen(struct notice *n)
{
	struct bound *b;

	if (!take_socket(n))
		return false;
	b = bounds_find(&n->g->bounds, n->object.ino);
	if (b)
		strcpy(n->name, b->name);
	else if (!name_by_kernel(n) || !has_port(n->name))
		return false;
	b = note_bound(n, n->object.ino);
	if (!b)
		return false;
	if (!holdings_has(&n->s->holdings, &n->object))
		keep(n, true);
	gateless_listens(n->s, n->g, b);
	return false;
}

/* The file of a socket that is kept stays: the other generation's clients come by it. */
static bool take_removal(struct notice *n, int directory, uint64_t address)
{
	char path[TAG_NAME_MAX + 1], absolute[TAG_NAME_MAX + 1];
	struct stat st;

	if ((n->s->ending && !n->s->store.leaving) ||
	    remote_string((pid_t)n->call.pid, address, path, sizeof(path)) || !waits(n) ||
	    remote_path((pid_t)n->call.pid, directory, path, absolute) ||
	    remote_stat((pid_t)n->call.pid, absolute, &st) || !S_ISSOCK(st.st_mode))
		return false;
	for (const struct entry *e = table_first(n->s->holdings.table); e; e = table_after(e))
		if (e->object.domain == AF_UNIX && e->path_ino == st.st_ino && e->path_dev == st.st_dev)
			return true;
	return false;
}

static bool decide(struct notice *n)
{
	const uint64_t *args = (const uint64_t *)n->call.data.args;

	switch (n->call.data.nr) {
	case SYS_bind:
		return take_bind(n);
	case SYS_listen:
		return take_listen(n);
#ifdef SYS_unlink
	case SYS_unlink:
		return take_removal(n, AT_FDCWD, args[0]);
#endif
	case SYS_unlinkat:
		return !(args[2] & AT_REMOVEDIR) && take_removal(n, (int)args[0], args[1]);
	default:
		return false;
	}
}

/* ---- hearing and answering ---- */

static bool is_over(int fd)
{
	struct pollfd on = {.fd = fd, .events = POLLIN};

	return poll(&on, 1, 0) > 0 && !(on.revents & POLLIN) && on.revents & (POLLHUP | POLLERR);
}

void notices_take(struct supervisor *s, struct generation *g)
{
	struct notice n = {.s = s, .g = g, .sock = -1};
	struct seccomp_notif_resp answer = {0};

	if (is_over(g->notices)) { /* all its processes have ended */
		io_close(&g->notices);
		g->notices = -1;
		return;
	}
	if (ioctl(g->notices, SECCOMP_IOCTL_NOTIF_RECV, &n.call)) /* a signal has called it off */
		return;
	n.pidfd = remote_open((pid_t)n.call.pid);
	answer.id = n.call.id;
	if (n.pidfd < 0 || !waits(&n) || !decide(&n))
		answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	ioctl(g->notices, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	io_close(&n.sock);
	io_close(&n.pidfd);
}

/* ---- what is not held any more ---- */

/* A generation may have many processes: those that had the descriptor are asked first. 1, 0; -ESRCH: not known. */
int notices_holds(const struct generation *g, uint64_t ino)
{
	const struct bound *b = bounds_find(&g->bounds, ino);
	cleanup_free pid_t *pids = NULL;
	size_t count;

	if (b && b->number >= 0 && remote_is_socket(b->pid, b->number, ino))
		return 1;
	pids = proc_pids(&count);
	for (size_t i = 0; i < count; i++)
		if (generation_has(g, pids[i]) && remote_has_socket(pids[i], ino) > 0)
			return 1;
	return remote_has_socket(g->owner, ino);
}

/*
 * A duplicate keeps a port in use, with a queue from which no process accepts. So if the kernel refused to listen, or
 * the serving generation has closed the socket, it is closed here too.
 */
void notices_settle(struct supervisor *s)
{
	for (struct entry *e = table_first(s->holdings.table), *after; e; e = after) {
		after = table_after(e);
		if ((e->kind == ENTRY_STREAM && !is_listening(e->fd)) ||
		    (s->serving && !s->serving->ended && !handover_under_way(s) &&
		     !notices_holds(s->serving, e->object.ino)))
			holdings_drop(&s->holdings, e);
	}
}
