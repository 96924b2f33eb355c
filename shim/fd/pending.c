/* SPDX-License-Identifier: MIT */
/* Notes of what was opened and bound, and what they come to. */
#define _GNU_SOURCE
#include "fd/pending.h"

#include "fd/entry.h"
#include "process/guard.h"
#include "process/birth.h"
#include "base/next.h"
#include "base/pool.h"
#include "base/room.h"
#include "fd/tagging.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Atomic(struct noted *) pending_pages[PENDING_PAGES];
static _Atomic uint64_t last_order;
static _Atomic bool pending_some; /* since the last settling of all */
static _Atomic bool listens;    /* one of them, since the last fork */

static uint64_t next_order(void)
{
	if (unlikely(!atomic_load_explicit(&pending_some, memory_order_relaxed)))
		atomic_store(&pending_some, true);
	return atomic_fetch_add_explicit(&last_order, 1, memory_order_relaxed) + 1;
}

/* Mapped straight from the kernel, as fd/conn.c's are. */
static __attribute__((noinline)) struct noted *pending_make_page(int index)
{
	size_t size = sizeof(struct noted) << PENDING_PAGE_SHIFT;
	struct noted *page = NULL, *fresh = pool_page(size);

	if (!fresh)
		return NULL;
	if (atomic_compare_exchange_strong(&pending_pages[index], &page, fresh))
		return fresh;
	pool_unpage(fresh, size);
	return page;
}

static struct noted *note_for(int fd)
{
	struct noted *n = pending_at(fd), *page;

	if (likely(n != NULL) || (unsigned)fd >> PENDING_PAGE_SHIFT >= PENDING_PAGES)
		return n;
	page = pending_make_page(fd >> PENDING_PAGE_SHIFT);
	return page ? page + (fd & ((1 << PENDING_PAGE_SHIFT) - 1)) : NULL;
}

bool pending_path(int fd, const char *path, int flags)
{
	size_t len = strnlen(path, PENDING_PATH_MAX + 1);
	struct pending_path *p;
	struct noted *n;

	if (path[0] != '/' || len > PENDING_PATH_MAX || !(n = note_for(fd)))
		return false;
	p = &n->paths[n->paths[0].order > n->paths[1].order];
	atomic_store_explicit(&p->order, 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	p->access = flags & O_ACCMODE;
	memcpy(p->path, path, len + 1);
	atomic_store_explicit(&p->order, next_order(), memory_order_release);
	return true;
}

bool pending_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct noted *n;

	if (!addr || len < sizeof(struct sockaddr_in) || len > sizeof(n->addr) ||
	    (addr->sa_family != AF_INET && addr->sa_family != AF_INET6) || !(n = note_for(fd)))
		return false;
	atomic_store_explicit(&n->bound, 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	/* in6's port stands where in's does */
	atomic_store_explicit(&n->fleeting, !((const struct sockaddr_in *)addr)->sin_port, memory_order_relaxed);
	atomic_store_explicit(&n->backlog, -1, memory_order_relaxed);
	n->len = len;
	memcpy(n->addr, addr, len);
	atomic_store_explicit(&n->bound, next_order(), memory_order_release);
	return true;
}

/* Another thread may settle the note meanwhile: it looks again after that, or we see that the note is gone. */
bool pending_listen(int fd, int backlog)
{
	struct noted *n = pending_at(fd);

	if (!n || !n->bound)
		return false;
	atomic_store(&n->backlog, backlog);
	atomic_store_explicit(&listens, true, memory_order_relaxed);
	return atomic_load(&n->bound);
}

/*
 * A child that closes the listener must still know it, for connections that come to it from there by message
 * (SCM_RIGHTS). It could not resolve its parent's notes later.
 */
static void pending_before_fork(void)
{
	struct guard_hold hold;

	if (likely(!atomic_load_explicit(&listens, memory_order_relaxed)) || !guard_lock(&hold))
		return;
	pending_resolve_all();
	guard_unlock(&hold);
	atomic_store(&listens, false);
}

void pending_init(void)
{
	birth_around_fork(pending_before_fork, NULL);
}

void pending_unbind(int fd)
{
	struct noted *n = pending_at(fd);

	if (!n || !n->bound || !birth_own_memory())
		return;
	atomic_store_explicit(&n->bound, 0, memory_order_release);
	atomic_store_explicit(&n->fleeting, false, memory_order_relaxed);
}

/* ---- settling ---- */

/* A note as it stands, read without a lock; false: it is being written, or there is none. */
static bool read_path(struct pending_path *p, struct pending_path *copy)
{
	uint64_t order = atomic_load_explicit(&p->order, memory_order_acquire);

	if (!order)
		return false;
	copy->access = p->access;
	memcpy(copy->path, p->path, sizeof(copy->path));
	atomic_thread_fence(memory_order_acquire);
	copy->path[PENDING_PATH_MAX] = '\0';
	copy->order = order;
	return atomic_load_explicit(&p->order, memory_order_relaxed) == order;
}

/*
 * Does the path name that file? One that cannot be looked at any more (the rights were given up since) is compared with
 * what the kernel calls it.
 */
static __attribute__((noinline)) bool names(const char *path, const struct stat *file, int fd)
{
	cleanup_room char *real = room_take();
	char link[40];
	struct text t = TEXT_ON(link);
	struct stat st;
	ssize_t n;

	if (!stat(path, &st))
		return st.st_dev == file->st_dev && st.st_ino == file->st_ino;
	if (errno != EACCES || !real)
		return false;
	text_format(&t, "/proc/self/fd/%d", fd);
	n = readlink(link, real, ROOM_SIZE);
	return n == (ssize_t)strlen(path) && !memcmp(real, path, (size_t)n);
}

/* The tag of a path, or false: the number is something else by now. */
static __attribute__((noinline)) bool tag_path_of(int fd, const struct pending_path *p, const struct stat *st)
{
	cleanup_room char *name = room_take();
	struct object object = {.dev = st->st_dev,
				.ino = st->st_ino,
				.mode = st->st_mode & S_IFMT,
				.domain = -1,
				.type = -1,
				.protocol = -1};
	const char *prefix = tag_prefix(&object);
	size_t len = strlen(prefix);
	struct entry *e;

	if (!name)
		return false;
	memcpy(name, prefix, len);
	tag_clean(p->path, name + len);
	if (tag_stateless_device(name) || tagging_is_fd_path(name + len) || !names(name + len, st, fd))
		return false;
	e = entry_add(name, fd, object.mode == S_IFIFO ? ENTRY_FIFO : ENTRY_DEVICE, &object);
	if (e)
		e->access = p->access;
	return true;
}

/* Is the socket bound to what was asked for? What was asked with port 0 has another by now. */
static bool is_bound_to(int fd, const struct sockaddr *addr)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)addr;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addr;
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} now = {0}, peer;
	socklen_t len = sizeof(now);

	if (next_getsockname(fd, &now.any, &len) || now.any.sa_family != addr->sa_family)
		return false;
	len = sizeof(now);
	if (in->sin_port && !getpeername(fd, &peer.any, &len)) /* an accepted one has its listener's address */
		return false;
	if (addr->sa_family == AF_INET)
		return (!in->sin_port || in->sin_port == now.in.sin_port) &&
		       in->sin_addr.s_addr == now.in.sin_addr.s_addr;
	return (!in6->sin6_port || in6->sin6_port == now.in6.sin6_port) &&
	       !memcmp(&in6->sin6_addr, &now.in6.sin6_addr, sizeof(in6->sin6_addr));
}

static __attribute__((noinline)) void settle_bound(int fd, struct noted *n)
{
	char name[96];
	union {
		struct sockaddr any;
		unsigned char bytes[sizeof(n->addr)];
	} addr;
	uint64_t order = atomic_load_explicit(&n->bound, memory_order_acquire);
	int backlog = atomic_load(&n->backlog);
	struct object object;
	struct entry *e = NULL;

	if (!order)
		return;
	memcpy(addr.bytes, n->addr, sizeof(addr.bytes));
	if (!object_of(fd, &object) && object.domain == addr.any.sa_family && is_bound_to(fd, &addr.any) &&
	    !tag_inet(&object, &addr.any, n->len, name, sizeof(name))) {
		e = entry_add(name, fd, object.type == SOCK_DGRAM ? ENTRY_DATAGRAM : ENTRY_STREAM, &object);
		if (e)
			entry_look_at_socket(e, backlog);
	}
	if (!atomic_compare_exchange_strong(&n->bound, &order, 0))
		return;
	atomic_store(&n->fleeting, false);
	if (e && atomic_load(&n->backlog) != backlog) /* listen() came in between */
		entry_look_at_socket(e, n->backlog);
}

/* Whichever of the paths names what the number is: the newer one if both do. */
static void settle_paths(int fd, struct noted *n)
{
	int newer = n->paths[1].order > n->paths[0].order;
	struct stat st;
	bool kept = !fstat(fd, &st) &&
		    (S_ISFIFO(st.st_mode) || (S_ISCHR(st.st_mode) && !tag_stateless_number(st.st_rdev)));

	for (int i = 0; i < 2; i++) {
		struct pending_path *p = &n->paths[i ^ newer], copy;
		uint64_t order;

		if (!read_path(p, &copy))
			continue;
		if (kept && tag_path_of(fd, &copy, &st))
			kept = false;
		order = copy.order;
		atomic_compare_exchange_strong(&p->order, &order, 0);
	}
}

/* What the program itself has named, or what is named already, needs no note. */
static void drop(struct noted *n)
{
	atomic_store(&n->bound, 0);
	atomic_store(&n->fleeting, false);
	atomic_store(&n->paths[0].order, 0);
	atomic_store(&n->paths[1].order, 0);
}

static void pending_settle(int fd, struct noted *n)
{
	const struct entry *e = table_by_fd(cpr__table, fd);
	int saved_errno = errno;

	if (e && object_still(&e->object, fd)) {
		drop(n);
	} else {
		settle_bound(fd, n);
		settle_paths(fd, n);
	}
	errno = saved_errno;
}

void pending_resolve(int fd)
{
	struct guard_hold hold;

	if (!pending_any(fd) || !guard_lock(&hold))
		return;
	pending_settle(fd, pending_at(fd));
	guard_unlock(&hold);
}

/* The next number from fd on of which anything is noted, or -1. */
static int next_noted(int fd)
{
	for (; fd >> PENDING_PAGE_SHIFT < PENDING_PAGES; fd++) {
		if (!atomic_load_explicit(&pending_pages[fd >> PENDING_PAGE_SHIFT], memory_order_acquire))
			fd |= (1 << PENDING_PAGE_SHIFT) - 1;
		else if (pending_any(fd))
			return fd;
	}
	return -1;
}

struct turn {
	uint64_t order;
	int fd;
};

static uint64_t order_of(const struct noted *n)
{
	uint64_t a = n->paths[0].order, b = n->paths[1].order;

	return n->bound ? n->bound : a > b ? a : b;
}

/* Shell's: they stand nearly in order already. */
static void sort(struct turn *turns, size_t count)
{
	for (size_t gap = count / 2; gap; gap /= 2)
		for (size_t i = gap; i < count; i++) {
			struct turn moved = turns[i];
			size_t at = i;

			for (; at >= gap && turns[at - gap].order > moved.order; at -= gap)
				turns[at] = turns[at - gap];
			turns[at] = moved;
		}
}

/* The ids of one name count in the order in which they were asked for. */
void pending_resolve_all(void)
{
	struct turn *turns;
	size_t count = 0, used = 0;

	if (!atomic_exchange(&pending_some, false))
		return;
	for (int fd = next_noted(0); fd >= 0; fd = next_noted(fd + 1))
		count++;
	turns = count ? pool_map(count * sizeof(*turns)) : NULL;
	if (!turns) { /* no memory: in the order of their numbers, then */
		for (int fd = next_noted(0); fd >= 0; fd = next_noted(fd + 1))
			pending_settle(fd, pending_at(fd));
		return;
	}
	for (int fd = next_noted(0); fd >= 0 && used < count; fd = next_noted(fd + 1))
		turns[used++] = (struct turn){order_of(pending_at(fd)), fd};
	sort(turns, used);
	for (size_t i = 0; i < used; i++)
		pending_settle(turns[i].fd, pending_at(turns[i].fd));
	pool_unmap(turns, count * sizeof(*turns));
}

bool pending_may_name(const char *name)
{
	static const char *const prefixes[] = {
		"fifo:/", "dev:/", "tcp:", "udp:", "udplite:", "sctp:", "sctp-seqpacket:", "icmp:"};

	if (likely(!atomic_load_explicit(&pending_some, memory_order_relaxed)))
		return false;
	for (size_t i = 0; i < countof(prefixes); i++)
		if (!strncmp(name, prefixes[i], strlen(prefixes[i])))
			return true;
	return false;
}
