/* SPDX-License-Identifier: MIT */
/* Claiming sockets, paths and memfds. */
#define _GNU_SOURCE
#include "claim.h"

#include "carry.h"
#include "children.h"
#include "log.h"
#include "next.h"
#include "pool.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what was set before bind ---- */

struct note {
	struct note *after;
	uint64_t ino; /* of the fresh socket: a number can be closed and given out again */
	int fd, epfd; /* epfd -1: an option */
	struct epoll_event event;
	int level, name;
	socklen_t len;
	char value[];
};

static struct note *notes, **notes_end = &notes;

static void add_note(const struct note *from, const void *value)
{
	struct guard_hold hold;
	struct object object;
	struct note *note;

	if (object_of(from->fd, &object) || object.domain < 0 || !guard_lock(&hold))
		return;
	note = pool_alloc(sizeof(*note) + from->len);
	if (note) {
		*note = *from;
		note->ino = object.ino;
		memcpy(note->value, value, from->len);
		*notes_end = note;
		notes_end = &note->after;
	}
	guard_unlock(&hold);
}

void claim_note_option(int fd, int level, int name, const void *value, socklen_t len)
{
	struct note note = {.fd = fd, .epfd = -1, .level = level, .name = name, .len = len};

	if (track_orphans() && !track_knows(fd) && value && len <= 4096)
		add_note(&note, value);
}

void claim_note_epoll(int epfd, int op, int fd, const struct epoll_event *event)
{
	struct note note = {.fd = fd, .epfd = epfd};

	if (!track_orphans() || track_knows(fd))
		return;
	if (event && op != EPOLL_CTL_DEL)
		note.event = *event;
	note.level = op;
	add_note(&note, "");
}

void claim_forget_notes(void)
{
	struct guard_hold hold;

	if (!notes || !guard_lock(&hold))
		return;
	while (notes) {
		struct note *note = notes;

		notes = note->after;
		pool_free(note, sizeof(*note) + note->len);
	}
	notes_end = &notes;
	guard_unlock(&hold);
}

/* In the order in which the program did it. What fails failed for a reason of the older life (a membership that stands, V6ONLY after
   bind): the orphan has it already. */
static void replay(int fd, uint64_t ino)
{
	for (const struct note *note = notes; note; note = note->after) {
		struct epoll_event event = note->event;

		if (note->fd != fd || note->ino != ino)
			continue;
		if (note->epfd >= 0)
			next_epoll_ctl(note->epfd, note->level, fd, &event);
		else if (next_setsockopt(fd, note->level, note->name, note->value, note->len))
			log_debug("option %d of level %d could not be set again on descriptor %d: %m", note->name, note->level, fd);
	}
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

static bool path_is_its(const struct entry *e, const char *path)
{
	struct stat st;

	return !stat(path, &st) && st.st_dev == e->path_dev && st.st_ino == e->path_ino;
}

static bool fits(const struct entry *e, int fd, const struct object *fresh, const struct sockaddr *addr, socklen_t len)
{
	char path[109];

	if (e->object.domain != fresh->domain || e->object.type != fresh->type || e->object.protocol != fresh->protocol)
		return false;
	if (!object_still(&e->object, e->fd) || !same_device(e->fd, fd) || !same_v6only(e, fd, addr))
		return false;
	return !tag_unix_path(addr, len, path) || path_is_its(e, path);
}

/* O_NONBLOCK belongs to the description, which the last generation may still have set its own way: as this program asked. */
static void take_status_flags(int fd, int wanted, int mask)
{
	int flags = next_fcntl(fd, F_GETFL, NULL);

	if (flags >= 0 && (flags & mask) != (wanted & mask))
		next_fcntl(fd, F_SETFL, (void *)(long)((flags & ~mask) | (wanted & mask)));
}

/* The orphan at fd, and nowhere else. Holding the guard. */
static bool move_onto(struct entry *e, int fd, const struct object *fresh)
{
	int status = next_fcntl(fd, F_GETFL, NULL), cloexec = next_fcntl(fd, F_GETFD, NULL) & FD_CLOEXEC, old = e->fd;

	if (table_by_fd(cpr__table, fd)) /* bound before, or stale */
		table_forget_fd(cpr__table, fd);
	if (next_dup3(old, fd, cloexec ? O_CLOEXEC : 0) < 0)
		return false;
	if (table_move(cpr__table, e, fd))
		return false;
	next_close(old);
	table_adopt(cpr__table, e);
	if (e->path_ino)
		track_has_paths = true;
	carry_knock(e->name, fd);
	e->flags &= (uint16_t)~(ENTRY_INHERITED | ENTRY_CLOEXEC);
	if (!children_share()) /* else they would block in accept(), or find that it does not; as the last generation had it, this program can live with it */
		take_status_flags(fd, status, O_NONBLOCK);
	replay(fd, fresh->ino);
	log_debug("claimed %s/%d at descriptor %d", e->name, e->id, fd);
	return true;
}

static struct entry *fitting_after(struct entry *e, int fd, const struct object *fresh, const struct sockaddr *addr, socklen_t len)
{
	while (e && !fits(e, fd, fresh, addr, len))
		e = table_orphan_after(cpr__table, e);
	return e;
}

/* The first; to a worker, of several, the one that is its turn: its brothers have copies of the same, and a queue that nobody took would swallow clients. Holding the guard. */
static struct entry *fitting(const char *name, int fd, const struct object *fresh, const struct sockaddr *addr, socklen_t len)
{
	struct entry *first = fitting_after(table_orphan(cpr__table, name), fd, fresh, addr, len), *e = first;
	int count = 0, turn;

	for (e = first; e; e = fitting_after(table_orphan_after(cpr__table, e), fd, fresh, addr, len))
		count++;
	if (count < 2 || guard_is_owner())
		return first;
	turn = guard_claimer() % count;
	for (e = first; turn > 0; turn--)
		e = fitting_after(table_orphan_after(cpr__table, e), fd, fresh, addr, len);
	return e;
}

bool claim_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	char name[TAG_NAME_MAX + 1];
	struct guard_hold hold;
	struct object fresh;
	struct entry *e;
	int kept = errno;
	bool claimed = false;

	if (likely(!track_orphans()) || object_of(fd, &fresh) || tag_socket(&fresh, addr, len, name) || !guard_lock(&hold))
		return false;
	e = fitting(name, fd, &fresh, addr, len);
	claimed = e && move_onto(e, fd, &fresh);
	guard_unlock(&hold);
	if (claimed && !guard_is_owner())
		guard_claimed();
	errno = kept;
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

	return getsockname(fd, (struct sockaddr *)&addr, &len) ? 0 : port_of((struct sockaddr *)&addr);
}

bool claim_release_port(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct guard_hold hold;
	struct object fresh;
	struct entry *e, *after;
	bool released = false;
	int kept = errno, port;

	if (!track_orphans() || len < sizeof(struct sockaddr_in) || !(port = port_of(addr)) || object_of(fd, &fresh) || !guard_lock(&hold))
		return false;
	for (e = table_first(cpr__table); e; e = after) {
		after = table_after(e);
		if (!(e->flags & ENTRY_ORPHAN) || e->flags & ENTRY_INHERITED || e->object.type != fresh.type)
			continue;
		if ((e->object.domain != AF_INET && e->object.domain != AF_INET6) || bound_port(e->fd) != port || !table_hold(e))
			continue;
		log_warn("%s is in the way of what the program binds now: closed", e->name);
		next_close(e->fd);
		table_remove(cpr__table, e);
		released = true;
	}
	guard_unlock(&hold);
	errno = kept;
	return released;
}

/* ---- paths ---- */

static struct entry *orphan_of_path(const char *path, int flags)
{
	static const char *const prefixes[] = {"fifo:", "dev:", "file:"};
	char name[TAG_NAME_MAX + 8];
	struct stat st;

	if (stat(path, &st))
		return NULL;
	for (size_t i = 0; i < countof(prefixes); i++) {
		struct text t = TEXT_ON(name);
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
	int old = e->fd, fd = next_fcntl(old, cloexec ? F_DUPFD_CLOEXEC : F_DUPFD, NULL);

	if (fd < 0)
		return -1;
	if (fd > old) { /* its own number is the lowest that it could have */
		next_close(fd);
		fd = old;
		next_fcntl(fd, F_SETFD, (void *)(long)(cloexec ? FD_CLOEXEC : 0));
	} else {
		if (table_by_fd(cpr__table, fd))
			table_forget_fd(cpr__table, fd);
		if (table_move(cpr__table, e, fd)) {
			next_close(fd);
			return -1;
		}
		next_close(old);
	}
	table_adopt(cpr__table, e);
	e->flags &= (uint16_t)~(ENTRY_INHERITED | ENTRY_CLOEXEC);
	log_debug("claimed %s/%d at descriptor %d", e->name, e->id, fd);
	return fd;
}

static __attribute__((noinline)) int open_orphan(int dir, const char *path, int flags)
{
	char absolute[TAG_NAME_MAX + 1];
	struct guard_hold hold;
	struct entry *e;
	int kept = errno, fd = -1;

	if (tag_path(dir, path, absolute) || !guard_lock(&hold))
		return -1;
	e = orphan_of_path(absolute, flags);
	if (e)
		fd = take_as_new(e, flags & O_CLOEXEC);
	if (fd >= 0)
		take_status_flags(fd, flags, O_NONBLOCK | O_APPEND);
	guard_unlock(&hold);
	errno = kept;
	return fd;
}

/* The room for a path is on the stack only while there are orphans: see track_opened. */
int claim_open(int dir, const char *path, int flags)
{
	if (likely(!track_orphans()) || !path || flags & (O_EXCL | O_TRUNC | O_PATH | O_DIRECTORY))
		return -1;
	return open_orphan(dir, path, flags);
}

static __attribute__((noinline)) int memfd_orphan(const char *given, unsigned flags)
{
	char name[TAG_NAME_MAX + 1];
	struct text t = TEXT_ON(name);
	struct guard_hold hold;
	struct entry *e;
	int kept = errno, fd = -1;

	text_add(&t, "memfd:");
	text_add(&t, given);
	if (!guard_lock(&hold))
		return -1;
	e = table_orphan(cpr__table, name);
	if (e && object_still(&e->object, e->fd))
		fd = take_as_new(e, flags & MFD_CLOEXEC);
	guard_unlock(&hold);
	errno = kept;
	return fd;
}

int claim_memfd(const char *given, unsigned flags)
{
	return likely(!track_orphans()) || !given ? -1 : memfd_orphan(given, flags);
}

void claim_entry(struct entry *e)
{
	int kept = errno;

	if (!table_hold(e))
		return;
	if (!(e->flags & (ENTRY_CLOEXEC | ENTRY_INHERITED))) /* an inherited one was never marked */
		next_fcntl(e->fd, F_SETFD, NULL);
	table_adopt(cpr__table, e);
	e->flags &= (uint16_t)~ENTRY_INHERITED;
	errno = kept;
}

/* ---- unix socket paths ---- */

static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};

/* What a socket of this type at this path is called; false if none can be there. */
static bool name_of_path(const char *path, int type, char name[TAG_NAME_MAX + 1])
{
	struct object like = {.domain = AF_UNIX, .type = type};
	struct sockaddr_un_long {
		sa_family_t family;
		char path[109];
	} addr = {.family = AF_UNIX};
	size_t n = strlen(path);

	if (n >= sizeof(addr.path))
		return false;
	memcpy(addr.path, path, n + 1);
	return !tag_socket(&like, (struct sockaddr *)&addr, (socklen_t)(sizeof(sa_family_t) + n + 1), name);
}

/* The orphan that was bound there, and whose file it still is. Holding the guard. */
static struct entry *orphan_at(const char *path)
{
	char name[TAG_NAME_MAX + 1];

	for (size_t i = 0; i < countof(types); i++)
		if (name_of_path(path, types[i], name))
			for (struct entry *e = table_orphan(cpr__table, name); e; e = table_orphan_after(cpr__table, e))
				if (object_still(&e->object, e->fd) && path_is_its(e, path))
					return e;
	return NULL;
}

static __attribute__((noinline)) bool guards_path(int dir, const char *path)
{
	char absolute[TAG_NAME_MAX + 1];
	struct guard_hold hold;
	bool guards;

	if (tag_path(dir, path, absolute) || !guard_lock(&hold))
		return false;
	guards = orphan_at(absolute) != NULL;
	guard_unlock(&hold);
	return guards;
}

bool claim_guards_path(int dir, const char *path)
{
	return unlikely(track_orphans()) && path && guards_path(dir, path);
}

static __attribute__((noinline)) bool guards_local(const struct sockaddr *addr, socklen_t len)
{
	char path[109], name[TAG_NAME_MAX + 1];
	struct guard_hold hold;
	bool guards = false;

	if (tag_unix_path(addr, len, path))
		return claim_guards_path(AT_FDCWD, path);
	for (size_t i = 0; i < countof(types) && !guards; i++) {
		struct object like = {.domain = AF_UNIX, .type = types[i]};

		if (tag_socket(&like, addr, len, name) || !guard_lock(&hold))
			continue;
		guards = table_orphan(cpr__table, name) != NULL;
		guard_unlock(&hold);
	}
	return guards;
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

	if (!(e->flags & ENTRY_ORPHAN) || e->flags & ENTRY_INHERITED || e->object.type != SOCK_STREAM || !object_still(&e->object, e->fd))
		return false;
	if (getsockname(e->fd, (struct sockaddr *)&bound, &len) || port_of((struct sockaddr *)&bound) != port_of(addr))
		return false;
	if (bound.ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr))
		return is_this_machine(addr) && (addr->sa_family == AF_INET6 || !(e->flags & ENTRY_V6ONLY));
	if (bound.ss_family != addr->sa_family)
		return false;
	if (bound.ss_family == AF_INET6)
		return !memcmp(&in6->sin6_addr, &to6->sin6_addr, sizeof(in6->sin6_addr));
	return in->sin_addr.s_addr == to->sin_addr.s_addr || (in->sin_addr.s_addr == htonl(INADDR_ANY) && is_this_machine(addr));
}

static __attribute__((noinline)) bool guards_inet(int fd, const struct sockaddr *addr)
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

bool claim_guards_address(int fd, const struct sockaddr *addr, socklen_t len)
{
	if (likely(!track_orphans()) || !addr || len < sizeof(sa_family_t))
		return false;
	if (addr->sa_family == AF_UNIX)
		return guards_local(addr, len);
	if ((addr->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) || (addr->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)))
		return guards_inet(fd, addr);
	return false;
}

/* ---- a socket that is bound under a passing name, and moved to its own (haproxy: nobody finds it half made) ---- */

static struct entry *own_at(const char *path)
{
	for (struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (!(e->flags & ENTRY_ORPHAN) && e->object.domain == AF_UNIX && e->path_ino && path_is_its(e, path) && object_still(&e->object, e->fd))
			return e;
	return NULL;
}

/* From here on it is called what clients call it: the next generation will end with that name, too. Holding the guard. */
static void rename_tag(struct entry *e, const char *path)
{
	struct entry old = *e, *renamed;
	char name[TAG_NAME_MAX + 1];

	if (!name_of_path(path, old.object.type, name) || !strcmp(name, old.name))
		return;
	table_remove(cpr__table, e); /* its duplicates are no longer known: they end with the next exec */
	renamed = track_add(name, old.fd, old.kind, &old.object);
	if (!renamed)
		return;
	renamed->flags = old.flags;
	renamed->backlog = old.backlog;
	renamed->path_dev = old.path_dev;
	renamed->path_ino = old.path_ino;
	track_judge(renamed);
}

static __attribute__((noinline)) bool renamed(int fromdir, const char *from, int todir, const char *to, bool done)
{
	char old[TAG_NAME_MAX + 1], new[TAG_NAME_MAX + 1];
	struct guard_hold hold;
	struct entry *own, *orphan;
	int kept = errno;
	bool claimed = false;

	if (tag_path(fromdir, from, old) || tag_path(todir, to, new) || !guard_lock(&hold))
		return false;
	own = own_at(done ? new : old);
	orphan = done ? NULL : orphan_at(new);
	if (own && orphan && own->object.type == orphan->object.type) {
		struct object fresh = own->object;

		claimed = move_onto(orphan, own->fd, &fresh);
		if (claimed)
			next_unlink(old);
	} else if (own && done) {
		rename_tag(own, new);
	}
	guard_unlock(&hold);
	errno = kept;
	return claimed;
}

bool claim_rename(int fromdir, const char *from, int todir, const char *to)
{
	return unlikely(track_orphans()) && from && to && renamed(fromdir, from, todir, to, false);
}

void claim_renamed(int fromdir, const char *from, int todir, const char *to)
{
	if (unlikely(track_has_paths))
		renamed(fromdir, from, todir, to, true);
}
