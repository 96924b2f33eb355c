/* SPDX-License-Identifier: MIT */
/* From the program's calls to the table. */
#define _GNU_SOURCE
#include "fd/tagging.h"

#include "base/guarded.h"
#include "process/guard.h"
#include "process/roster.h"
#include "process/birth.h"
#include "base/io.h"
#include "base/log.h"
#include "base/next.h"
#include "base/raw.h"
#include "fd/closed.h"
#include "fd/entry.h"
#include "base/room.h"
#include "process/light.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif

_Atomic bool tagging_has_paths;

static bool tagging_is_hidden_entry(const struct entry *e)
{
	return e->flags & ENTRY_ORPHAN && !(e->flags & ENTRY_INHERITED);
}

bool tagging_is_hidden(int fd)
{
	struct guard_hold hold;
	struct entry *e;
	bool hidden;

	if (!tagging_knows(fd) || !guard_lock(&hold))
		return false;
	e = table_by_fd(cpr__table, fd);
	/* else: closed behind our back, and another's number now */
	hidden = e && tagging_is_hidden_entry(e) && object_still(&e->object, fd);
	guard_unlock(&hold);
	return hidden;
}

static __attribute__((noinline)) void tag_bound(int fd, const struct sockaddr *addr, socklen_t len)
{
	cleanup_room char *name = room_take();
	char path[109];
	struct guard_hold hold;
	struct object object;
	struct stat st = {0};
	struct entry *e;
	int saved_errno = errno;

	if (!name || object_of(fd, &object) || tag_socket(&object, addr, len, name))
		goto out;
	if (tag_unix_path(addr, len, path) && stat(path, &st))
		st = (struct stat){0};
	if (!guard_lock(&hold))
		goto out;
	e = entry_add(name, fd, object.type == SOCK_DGRAM ? ENTRY_DATAGRAM : ENTRY_STREAM, &object);
	if (e) {
		e->path_dev = st.st_dev;
		e->path_ino = st.st_ino;
		if (st.st_ino)
			tagging_has_paths = true;
		if (entry_is_v6only(fd, &object))
			e->flags |= ENTRY_V6ONLY;
	}
	guard_unlock(&hold);
out:
	errno = saved_errno;
}

/*
 * Most bound sockets live long, and are tagged when the program first waits or accepts on them. For the short-lived
 * ones of a resolver that would cost too much.
 */
void tagging_bound(int fd, const struct sockaddr *addr, socklen_t len)
{
	if (!cpr__table || (!tagging_orphans() && !tagging_knows(fd) && pending_bind(fd, addr, len)))
		return;
	tag_bound(fd, addr, len);
}

void tagging_listening(int fd, int backlog)
{
	struct guard_hold hold;
	struct entry *e;

	if (!tagging_knows(fd) && (pending_listen(fd, backlog) || !tagging_knows(fd)))
		return;
	if (!guard_lock(&hold))
		return;
	e = table_by_fd(cpr__table, fd);
	if (e) {
		e->flags |= ENTRY_LISTENING;
		e->backlog = backlog;
		entry_judge(e);
	}
	guard_unlock(&hold);
}

static enum entry_kind kind_of(const struct object *object)
{
	return object->mode == S_IFCHR ? ENTRY_DEVICE : object->mode == S_IFIFO ? ENTRY_FIFO : ENTRY_FILE;
}

static __attribute__((noinline)) void tag_opened(int fd, int dir, const char *path, int flags,
						 const struct object *object)
{
	cleanup_room char *name = room_take(), *absolute = room_take();
	struct text t;
	struct guard_hold hold;
	struct entry *e;
	int saved_errno = errno;

	if (!name || !absolute || tag_path(dir, path, absolute))
		goto out;
	t = text_on(name, TAG_NAME_MAX + 8);
	text_add(&t, tag_prefix(object));
	text_add(&t, absolute);
	if (t.cut || t.used > TAG_NAME_MAX || tag_stateless_device(name) || tagging_is_fd_path(absolute))
		goto out;
	if (!guard_lock(&hold))
		goto out;
	pending_resolve_all(); /* those of its name came before it */
	e = entry_add(name, fd, kind_of(object), object);
	if (e)
		e->access = flags & O_ACCMODE;
	guard_unlock(&hold);
out:
	errno = saved_errno;
}

/* /dev/null, zero, full, random, urandom and tty by their numbers: the names are looked at later, of what is left. */
static bool is_stateless(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && tag_stateless_number(st.st_rdev);
}

/*
 * Most opened files do not concern us. They must not cost the stack of a name (crash handlers open files on 8 KiB), nor
 * the time of an fstat.
 */
void tagging_opened(int fd, int dir, const char *path, int flags)
{
	struct object object;
	bool files;

	tagging_fresh(fd);
	if (unlikely(light_matters(fd)))
		light_end();
	if (!cpr__table || flags & (O_PATH | O_DIRECTORY)) /* O_TMPFILE has O_DIRECTORY's bit */
		return;
	files = unlikely(cpr__settings.rules.count) && rules_may_keep(&cpr__settings.rules, "file:");
	if (!files && ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL) ||
		       (likely(!tagging_orphans()) && pending_path(fd, path, flags))))
		return;
	if (object_of(fd, &object) || !tag_prefix(&object))
		return;
	if (kind_of(&object) == ENTRY_DEVICE && is_stateless(fd))
		return;
	if (kind_of(&object) == ENTRY_FILE && !files)
		return;
	tag_opened(fd, dir, path, flags, &object);
}

void tagging_memfd(int fd, const char *given)
{
	cleanup_room char *name = NULL;
	struct guard_hold hold;
	struct object object;
	struct text t;

	tagging_fresh(fd);
	if (!cpr__table || !rules_may_keep(&cpr__settings.rules, "memfd:") || object_of(fd, &object))
		return;
	name = room_take();
	if (!name)
		return;
	t = text_on(name, TAG_NAME_MAX + 1);
	text_add(&t, "memfd:");
	text_add(&t, given);
	if (t.cut || !guard_lock(&hold))
		return;
	entry_add(name, fd, ENTRY_MEMFD, &object);
	guard_unlock(&hold);
}

void tagging_dup_noted(int from, int to)
{
	struct guard_hold hold;
	struct entry *e;

	if (from == to)
		return;
	tagging_fresh(to);
	if (unlikely(conn_at(from) != NULL) && birth_own_memory())
		conn_dup(from, to);
	if (unlikely(pending_any(from)) && cpr__table)
		pending_resolve(from);
	if (likely(!tagging_knows(from)) || !guard_lock(&hold))
		return;
	e = table_by_fd(cpr__table, from);
	if (e && object_still(&e->object, from))
		table_alias(cpr__table, e, to);
	guard_unlock(&hold);
}

void tagging_hide(const char *given, int fd)
{
	assert_guarded();
	cleanup_room char *name = room_take();
	struct entry *e;
	struct text t;

	if (!name)
		return;
	t = text_on(name, TAG_NAME_MAX + 16);
	text_format(&t, TAGGING_HIDDEN "%s", given);
	if (t.used > TAG_NAME_MAX || table_add_next(cpr__table, name, fd, &e))
		return;
	object_of(fd, &e->object);
	table_make_orphan(cpr__table, e);
}

static void tagging_drop(int fd)
{
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	table_forget_fd(cpr__table, fd);
	guard_unlock(&hold);
}

/*
 * Is it a client's, bound and then connected? A connected datagram socket receives from one peer only, and the next
 * generation will not ask for it.
 */
static bool tagging_is_clients(const struct entry *e, const struct sockaddr *addr)
{
	if (e->flags & (ENTRY_LISTENING | ENTRY_ORPHAN))
		return false;
	return e->kind == ENTRY_STREAM ||
	       (e->kind == ENTRY_DATAGRAM && e->object.domain != AF_UNIX && addr && addr->sa_family != AF_UNSPEC);
}

void tagging_socket_connected(int fd, const struct sockaddr *addr)
{
	struct guard_hold hold;
	struct entry *e;

	if (unlikely(pending_any(fd)) && addr && addr->sa_family != AF_UNSPEC)
		pending_unbind(fd);
	if (likely(!tagging_knows(fd)) || !guard_lock(&hold))
		return;
	e = table_by_fd(cpr__table, fd);
	if (e && tagging_is_clients(e, addr))
		table_forget_fd(cpr__table, fd);
	guard_unlock(&hold);
}

enum { CLOSED_MAX = 4, CLOSED_NAME = 256 };

static struct {
	struct entry entry;
	char name[CLOSED_NAME];
} closed[CLOSED_MAX];
static size_t closed_count;

/* A child that serves the one connection which its parent accepted closes the listener first of all. */
static void remember_listener(const struct entry *e, int fd)
{
	size_t len = strlen(e->name) + 1, i = closed_count % CLOSED_MAX;

	if (e->kind != ENTRY_STREAM || e->flags & ENTRY_ORPHAN || len > CLOSED_NAME || roster_elect())
		return;
	closed_count++;
	memcpy(closed[i].name, e->name, len);
	closed[i].entry = *e;
	closed[i].entry.name = closed[i].name;
	closed[i].entry.fd = fd;
}

const struct entry *tagging_listener(int fd)
{
	static const struct entry afar = {
		.name = "", .fd = TAGGING_REMOTE, .kind = ENTRY_STREAM, .flags = ENTRY_STARTED_WITH | ENTRY_LISTENING};
	const struct entry *e = fd == TAGGING_REMOTE ? &afar : table_by_fd(cpr__table, fd);

	for (size_t i = 0; !e && i < closed_count && i < CLOSED_MAX; i++)
		if (closed[i].entry.fd == fd)
			e = &closed[i].entry;
	return e && e->kind == ENTRY_STREAM ? e : NULL;
}

const struct entry *tagging_listener_named(const char *name)
{
	assert_guarded();
	const struct entry *e = table_find(cpr__table, name, 0);

	for (size_t i = 0; !e && i < closed_count && i < CLOSED_MAX; i++)
		if (!strcmp(closed[i].name, name))
			e = &closed[i].entry;
	return e && e->kind == ENTRY_STREAM && e->flags & ENTRY_LISTENING ? e : NULL;
}

bool tagging_let_go(int fd)
{
	struct guard_hold hold;
	struct entry *e;
	int saved_errno = errno;
	bool lives_on = false;

	if (unlikely(conn_at(fd) != NULL) && birth_own_memory())
		conn_end(fd);
	if (unlikely(pending_is_fleeting(fd)))
		pending_unbind(fd);
	if (!tagging_knows(fd))
		return true;
	if (tagging_hidden(fd))
		return false;
	if (guard_lock(&hold)) {
		e = table_by_fd(cpr__table, fd);
		if (e && !closed_give_back(e, &lives_on)) {
			remember_listener(e, fd);
			table_forget_fd(cpr__table, fd);
		}
		guard_unlock(&hold);
	}
	if (lives_on)
		closed_tell(fd);
	errno = saved_errno;
	return true;
}

void tagging_forget(int fd)
{
	if (unlikely(conn_at(fd) != NULL) &&
	    birth_own_memory()) /* a vfork child's numbers are its own, and our memory its parent's */
		conn_end(fd);
	if (unlikely(pending_is_fleeting(fd)))
		pending_unbind(fd);
	if (unlikely(tagging_knows(fd)))
		tagging_drop(fd);
}

void tagging_make_way(int fd)
{
	struct guard_hold hold;
	struct entry *e;
	int elsewhere;

	if (!tagging_orphans() || !tagging_knows(fd) || !guard_lock(&hold))
		return;
	e = table_by_fd(cpr__table, fd);
	if (e && table_hold(e) && tagging_is_hidden_entry(e)) {
		elsewhere = next_fcntl(fd, F_DUPFD_CLOEXEC, (void *)(long)(fd + 1));
		if (elsewhere >= 0 && table_move(cpr__table, e, elsewhere)) {
			raw_close(elsewhere);
		} else if (elsewhere < 0) {
			log_warn("%s is lost: its descriptor %d is wanted, and no other number is free", e->name, fd);
			table_remove(cpr__table, e);
		}
	}
	guard_unlock(&hold);
}

int tagging_queue_limit(const struct entry *e)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	/* of a listener: its backlog */
	return getsockopt(e->fd, IPPROTO_TCP, TCP_INFO, &info, &len) ? -1 : (int)info.tcpi_sacked;
}

int tagging_queue(const struct entry *e)
{
	uint32_t memory[16] = {0};
	struct tcp_info info;
	socklen_t len = sizeof(info);

	if (e->kind == ENTRY_STREAM && e->flags & ENTRY_LISTENING &&
	    !getsockopt(e->fd, IPPROTO_TCP, TCP_INFO, &info, &len))
		return (int)info.tcpi_unacked; /* of a listener: what waits for accept() */
	len = sizeof(memory);
	if (e->kind == ENTRY_DATAGRAM && !getsockopt(e->fd, SOL_SOCKET, SO_MEMINFO, memory, &len))
		return (int)memory[0];
	return -1;
}

/* Only this tag: others of the same descriptor are looked at in their turn. */
static bool remove_closed(struct entry *e)
{
	log_debug("%s/%d is not at descriptor %d any more: closed behind our back", e->name, e->id, e->fd);
	table_remove(cpr__table, e);
	return false;
}

static bool still_there(struct entry *e)
{
	while (e->fds > 1 && !object_still(&e->object, e->fd))
		table_forget_fd(cpr__table, e->fd);
	return object_still(&e->object, e->fd) || remove_closed(e);
}

static void note_cloexec(struct entry *e, int flags)
{
	if (flags & FD_CLOEXEC)
		e->flags |= ENTRY_CLOEXEC;
	else
		e->flags &= (uint16_t)~ENTRY_CLOEXEC;
}

/*
 * It will be looked at when it has arrived. What is still an orphan was not open to the program: it is looked at like
 * all else.
 */
static bool may_go_unseen(const struct entry *e)
{
	return e->kind == ENTRY_API && e->fds == 1 && !(e->flags & ENTRY_ORPHAN);
}

/* All that is asked of the API's descriptors: there may be a million. */
static void check_open(struct entry *e)
{
	int flags = next_fcntl(e->fd, F_GETFD, NULL);

	if (flags < 0) {
		remove_closed(e);
		return;
	}
	entry_judge(e);
	note_cloexec(e, flags);
}

void tagging_check_all(bool unseen)
{
	assert_guarded();
	struct entry *e, *after;
	int saved_errno = errno;

	pending_resolve_all();
	for (e = table_first(cpr__table); e; e = after) {
		after = table_after(e);
		if (unseen && may_go_unseen(e)) {
			check_open(e);
			continue;
		}
		if (!still_there(e))
			continue;
		if (!(e->flags & ENTRY_ORPHAN)) {
			if (entry_listens(e))
				e->flags |= ENTRY_LISTENING; /* by a worker, after the fork (varnish) */
			entry_judge(e);
			note_cloexec(e, next_fcntl(e->fd, F_GETFD, NULL));
		}
		e->queue = tagging_queue(e);
	}
	errno = saved_errno;
}

void tagging_resolve(void)
{
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	pending_resolve_all();
	guard_unlock(&hold);
}
