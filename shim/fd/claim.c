/* SPDX-License-Identifier: MIT */
/* Claiming sockets, paths and memfds. */
#define _GNU_SOURCE
#include "fd/claim.h"

#include "base/guarded.h"
#include "process/guard.h"
#include "process/roster.h"
#include "fd/gate.h"
#include "process/children.h"
#include "base/log.h"
#include "base/next.h"
#include "base/raw.h"
#include "base/room.h"
#include "fd/replay.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void nothing_waits(const char *name, int fd)
{
	(void)name, (void)fd;
}

static void (*on_listener)(const char *name, int fd) = nothing_waits;

void claim_on_listener(void (*claimed)(const char *name, int fd))
{
	on_listener = claimed;
}

/* ---- sockets ---- */

static bool same_device(int a, int b)
{
	char x[IFNAMSIZ] = "", y[IFNAMSIZ] = "";
	socklen_t xn = sizeof(x), yn = sizeof(y);

	if (getsockopt(a, SOL_SOCKET, SO_BINDTODEVICE, x, &xn) || getsockopt(b, SOL_SOCKET, SO_BINDTODEVICE, y, &yn))
		return true;
	return !strncmp(x, y, IFNAMSIZ);
}

/* Only the wildcard address of IPv6 listens differently with and without v6-only. */
static bool same_v6only(const struct entry *e, int fd, const struct sockaddr *addr)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addr;
	int on = 0;
	socklen_t len = sizeof(on);

	if (e->object.domain != AF_INET6 || !IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr))
		return true;
	return getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, &len) || !on == !(e->flags & ENTRY_V6ONLY);
}

static bool claim_fits(const struct entry *e, int fd, const struct object *fresh, const struct sockaddr *addr,
		       socklen_t len)
{
	char path[109];

	if (e->object.domain != fresh->domain || e->object.type != fresh->type || e->object.protocol != fresh->protocol)
		return false;
	if (!object_still(&e->object, e->fd) || !same_device(e->fd, fd) || !same_v6only(e, fd, addr))
		return false;
	return !tag_unix_path(addr, len, path) || claim_path_is_its(e, path);
}

/*
 * O_NONBLOCK belongs to the description, which the last generation may still have set its own way: as this program
 * asked.
 */
static void take_status_flags(int fd, int wanted, int mask)
{
	int flags = next_fcntl(fd, F_GETFL, NULL);

	if (flags >= 0 && (flags & mask) != (wanted & mask))
		next_fcntl(fd, F_SETFL, (void *)(long)((flags & ~mask) | (wanted & mask)));
}

bool claim_onto(struct entry *e, int fd, const struct object *fresh)
{
	int status = next_fcntl(fd, F_GETFL, NULL), cloexec = next_fcntl(fd, F_GETFD, NULL) & FD_CLOEXEC, old = e->fd;

	if (next_dup3(old, fd, cloexec ? O_CLOEXEC : 0) < 0)
		return false;
	if (table_move(cpr__table, e, fd))
		return false;
	if (!offered_was_given(old)) /* it is for the next version to find there, which may know what it is */
		raw_close(old);
	table_adopt(cpr__table, e);
	if (e->path_ino)
		tagging_has_paths = true;
	on_listener(e->name, fd);
	e->flags &= (uint16_t)~(ENTRY_INHERITED | ENTRY_CLOEXEC | ENTRY_CLOSED);
	if (!children_share()) /* else they would block in accept(), or find that it does not; as the last generation
				  had it, this program can live with it */
		take_status_flags(fd, status, O_NONBLOCK);
	replay_onto(fd, fresh->ino);
	log_debug("claimed %s/%d at descriptor %d", e->name, e->id, fd);
	return true;
}

static struct entry *fitting_after(struct entry *e, int fd, const struct object *fresh, const struct sockaddr *addr,
				   socklen_t len)
{
	while (e && !claim_fits(e, fd, fresh, addr, len))
		e = table_orphan_after(cpr__table, e);
	return e;
}

/*
 * The first orphan that fits. If there are several, each worker takes another one: all workers have copies of the same
 * orphans, and clients in the queue of an unclaimed one would never be served. Holding the guard.
 */
static struct entry *fitting(const char *name, int fd, const struct object *fresh, const struct sockaddr *addr,
			     socklen_t len)
{
	assert_guarded();
	struct entry *first = fitting_after(table_orphan(cpr__table, name), fd, fresh, addr, len), *e = first;
	int count = 0, turn;

	for (e = first; e; e = fitting_after(table_orphan_after(cpr__table, e), fd, fresh, addr, len))
		count++;
	if (count < 2 || roster_elect())
		return first;
	turn = roster_claimer() % count;
	for (e = first; turn > 0; turn--)
		e = fitting_after(table_orphan_after(cpr__table, e), fd, fresh, addr, len);
	return e;
}

/* Of those that a service manager has passed. Holding the guard. */
static struct entry *on_offer(const char *name, int fd, const struct object *fresh, const struct sockaddr *addr,
			      socklen_t len)
{
	struct entry *e = offered_first();

	while (e && (strcmp(e->name, name) || !claim_fits(e, fd, fresh, addr, len)))
		e = offered_after(e);
	if (e)
		offered_yield(e);
	return e;
}

/*
 * Behind a closed gate it is not given yet. A bind() that cannot be, not even to a private address, fails as it would.
 */
static bool claim(struct entry *e, int fd, const struct object *fresh)
{
	int r = gate_claims() && !gate_has_door(e) ? gate_claim(e, fd, fresh) : -ENOTSUP;

	if (r && r != -ENOTSUP && r != -EINVAL)
		log_warn("no door could be made for %s: it is open before the gate is", e->name);
	return !r || (r != -EINVAL && claim_onto(e, fd, fresh));
}

bool claim_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	cleanup_room char *name = NULL;
	struct guard_hold hold;
	struct object fresh;
	struct entry *e;
	int saved_errno = errno;
	bool claimed = false;

	if (likely(!claim_may()) || !(name = room_take()) || object_of(fd, &fresh) ||
	    tag_socket(&fresh, addr, len, name) || !guard_lock(&hold))
		return false;
	e = fitting(name, fd, &fresh, addr, len);
	if (!e && gate_revive(name))
		e = fitting(name, fd, &fresh, addr, len);
	e = e ? e : on_offer(name, fd, &fresh, addr, len);
	claimed = e && claim(e, fd, &fresh);
	guard_unlock(&hold);
	if (claimed && !roster_elect())
		roster_claimed();
	errno = saved_errno;
	return claimed;
}

static int port_of(const struct sockaddr *addr)
{
	if (addr->sa_family == AF_INET)
		return ntohs(((const struct sockaddr_in *)addr)->sin_port);
	return addr->sa_family == AF_INET6 ? ntohs(((const struct sockaddr_in6 *)addr)->sin6_port) : 0;
}

static int bound_port(int fd)
{
	struct sockaddr_storage addr = {0};
	socklen_t len = sizeof(addr);

	return next_getsockname(fd, (struct sockaddr *)&addr, &len) ? 0 : port_of((struct sockaddr *)&addr);
}

bool claim_release_port(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct guard_hold hold;
	struct object fresh;
	struct entry *e, *after;
	bool released = false;
	int saved_errno = errno, port;

	if (!tagging_orphans() || len < sizeof(struct sockaddr_in) || !(port = port_of(addr)) ||
	    object_of(fd, &fresh) || !guard_lock(&hold))
		return false;
	for (e = table_first(cpr__table); e; e = after) {
		after = table_after(e);
		if (!(e->flags & ENTRY_ORPHAN) || e->flags & ENTRY_INHERITED || e->object.type != fresh.type)
			continue;
		if ((e->object.domain != AF_INET && e->object.domain != AF_INET6) || bound_port(e->fd) != port ||
		    !object_still(&e->object, e->fd) || !table_hold(e))
			continue;
		log_warn("%s is in the way of what the program binds now: closed", e->name);
		raw_close(e->fd);
		table_remove(cpr__table, e);
		released = true;
	}
	guard_unlock(&hold);
	errno = saved_errno;
	return released;
}

static bool is_this_machine(const struct sockaddr *addr)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addr;

	if (addr->sa_family == AF_INET) {
		uint32_t host = ntohl(((const struct sockaddr_in *)addr)->sin_addr.s_addr);

		return host >> 24 == IN_LOOPBACKNET || host == INADDR_ANY;
	}
	return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) || IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr);
}

static bool listens_at(const struct entry *e, const struct sockaddr *addr)
{
	struct sockaddr_storage bound = {0};
	const struct sockaddr_in *in = (const struct sockaddr_in *)&bound, *to = (const struct sockaddr_in *)addr;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&bound, *to6 = (const struct sockaddr_in6 *)addr;
	socklen_t len = sizeof(bound);

	if (!(e->flags & ENTRY_ORPHAN) || e->flags & ENTRY_INHERITED || e->object.type != SOCK_STREAM ||
	    !object_still(&e->object, e->fd))
		return false;
	if (next_getsockname(e->fd, (struct sockaddr *)&bound, &len) ||
	    port_of((struct sockaddr *)&bound) != port_of(addr))
		return false;
	if (bound.ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr))
		return is_this_machine(addr) && (addr->sa_family == AF_INET6 || !(e->flags & ENTRY_V6ONLY));
	if (bound.ss_family != addr->sa_family)
		return false;
	if (bound.ss_family == AF_INET6)
		return !memcmp(&in6->sin6_addr, &to6->sin6_addr, sizeof(in6->sin6_addr));
	return in->sin_addr.s_addr == to->sin_addr.s_addr ||
	       (in->sin_addr.s_addr == htonl(INADDR_ANY) && is_this_machine(addr));
}

__attribute__((noinline)) bool claim_guards_inet(int fd, const struct sockaddr *addr)
{
	struct guard_hold hold;
	struct object object;
	bool guards = false;

	if (!port_of(addr) || object_of(fd, &object) || object.type != SOCK_STREAM || !guard_lock(&hold))
		return false;
	for (const struct entry *e = table_first(cpr__table); e && !guards; e = table_after(e))
		guards = listens_at(e, addr);
	guard_unlock(&hold);
	return guards;
}

/* ---- paths ---- */

static struct entry *orphan_of_path(const char *path, int flags)
{
	static const char *const prefixes[] = {"fifo:", "dev:", "file:"};
	cleanup_room char *name = room_take();
	struct stat st;

	if (!name || stat(path, &st))
		return NULL;
	for (size_t i = 0; i < countof(prefixes); i++) {
		struct text t = text_on(name, TAG_NAME_MAX + 8);
		struct entry *e;

		text_add(&t, prefixes[i]);
		text_add(&t, path);
		for (e = table_orphan(cpr__table, name); e; e = table_orphan_after(cpr__table, e)) {
			if (e->access != (flags & O_ACCMODE) || !object_still(&e->object, e->fd))
				continue;
			if (e->object.dev == st.st_dev && e->object.ino == st.st_ino)
				return e;
		}
	}
	return NULL;
}

/* The orphan at the lowest free number, as open() would give it. Holding the guard. */
static int take_as_new(struct entry *e, bool cloexec)
{
	assert_guarded();
	int old = e->fd, fd = next_fcntl(old, cloexec ? F_DUPFD_CLOEXEC : F_DUPFD, NULL);

	if (fd < 0)
		return -1;
	if (fd > old) { /* its own number is the lowest that it could have */
		raw_close(fd);
		fd = old;
		next_fcntl(fd, F_SETFD, (void *)(long)(cloexec ? FD_CLOEXEC : 0));
	} else {
		if (table_move(cpr__table, e, fd)) {
			raw_close(fd);
			return -1;
		}
		raw_close(old);
	}
	table_adopt(cpr__table, e);
	e->flags &= (uint16_t)~(ENTRY_INHERITED | ENTRY_CLOEXEC);
	log_debug("claimed %s/%d at descriptor %d", e->name, e->id, fd);
	return fd;
}

static __attribute__((noinline)) int open_orphan(int dir, const char *path, int flags)
{
	cleanup_room char *absolute = room_take();
	struct guard_hold hold;
	struct entry *e;
	int saved_errno = errno, fd = -1;

	if (!absolute || tag_path(dir, path, absolute) || !guard_lock(&hold))
		return -1;
	e = orphan_of_path(absolute, flags);
	if (e)
		fd = take_as_new(e, flags & O_CLOEXEC);
	if (fd >= 0)
		take_status_flags(fd, flags, O_NONBLOCK | O_APPEND);
	guard_unlock(&hold);
	errno = saved_errno;
	return fd;
}

int claim_open(int dir, const char *path, int flags)
{
	if (likely(!tagging_orphans()) || !path || flags & (O_EXCL | O_TRUNC | O_PATH | O_DIRECTORY))
		return -1;
	return open_orphan(dir, path, flags);
}

static __attribute__((noinline)) int memfd_orphan(const char *given, unsigned flags)
{
	cleanup_room char *name = room_take();
	struct guard_hold hold;
	struct entry *e;
	int saved_errno = errno, fd = -1;
	struct text t;

	if (!name)
		return -1;
	t = text_on(name, TAG_NAME_MAX + 1);
	text_add(&t, "memfd:");
	text_add(&t, given);
	if (!guard_lock(&hold))
		return -1;
	e = table_orphan(cpr__table, name);
	if (e && object_still(&e->object, e->fd))
		fd = take_as_new(e, flags & MFD_CLOEXEC);
	guard_unlock(&hold);
	errno = saved_errno;
	return fd;
}

int claim_memfd(const char *given, unsigned flags)
{
	return likely(!tagging_orphans()) || !given ? -1 : memfd_orphan(given, flags);
}

void claim_entry(struct entry *e)
{
	int saved_errno = errno;

	if (!table_hold(e))
		return;
	if (!(e->flags & (ENTRY_CLOEXEC | ENTRY_INHERITED))) /* an inherited one was never marked */
		next_fcntl(e->fd, F_SETFD, NULL);
	table_adopt(cpr__table, e);
	e->flags &= (uint16_t)~ENTRY_INHERITED;
	errno = saved_errno;
}
