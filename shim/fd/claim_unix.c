/* SPDX-License-Identifier: MIT */
/* Unix sockets have names in the file system: programs unlink, probe and rename them. */
#define _GNU_SOURCE
#include "process/guard.h"
#include "base/guarded.h"
#include "fd/claim.h"
#include "fd/gate.h"

#include "fd/entry.h"
#include "base/next.h"
#include "base/room.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

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

/* The orphan, or the offered socket, that was bound to this path and still owns the file there. Holding the guard. */
static struct entry *orphan_at(const char *path)
{
	assert_guarded();
	cleanup_room char *name = room_take();

	for (size_t i = 0; name && i < countof(types); i++)
		if (name_of_path(path, types[i], name))
			for (struct entry *e = table_orphan(cpr__table, name); e; e = table_orphan_after(cpr__table, e))
				if (object_still(&e->object, e->fd) && claim_path_is_its(e, path))
					return e;
	for (struct entry *e = offered_first(); e; e = offered_after(e))
		if (e->object.domain == AF_UNIX && object_still(&e->object, e->fd) && claim_path_is_its(e, path))
			return e;
	return NULL;
}

static __attribute__((noinline)) bool guards_path(int dir, const char *path)
{
	cleanup_room char *absolute = room_take();
	struct guard_hold hold;
	bool guards;

	if (!absolute || tag_path(dir, path, absolute) || !guard_lock(&hold))
		return false;
	guards = orphan_at(absolute) || gate_guards_path(absolute);
	guard_unlock(&hold);
	return guards;
}

bool claim_guards_path(int dir, const char *path)
{
	return (unlikely(claim_may()) || unlikely(gate_has_left)) && path && guards_path(dir, path);
}

__attribute__((noinline)) bool claim_guards_local(const struct sockaddr *addr, socklen_t len)
{
	cleanup_room char *name = NULL;
	char path[109];
	struct guard_hold hold;
	bool guards = false;

	if (tag_unix_path(addr, len, path))
		return claim_guards_path(AT_FDCWD, path);
	name = room_take();
	for (size_t i = 0; name && i < countof(types) && !guards; i++) {
		struct object like = {.domain = AF_UNIX, .type = types[i]};

		if (tag_socket(&like, addr, len, name) || !guard_lock(&hold))
			continue;
		guards = table_orphan(cpr__table, name) != NULL;
		guard_unlock(&hold);
	}
	return guards;
}

/* ---- a socket that is bound under a passing name, and moved to its own (haproxy: it is never found half made) ---- */

static struct entry *own_at(const char *path)
{
	for (struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (!(e->flags & ENTRY_ORPHAN) && e->object.domain == AF_UNIX && e->path_ino &&
		    claim_path_is_its(e, path) && object_still(&e->object, e->fd))
			return e;
	return NULL;
}

bool claim_has_path(int dir, const char *path)
{
	cleanup_room char *absolute = room_take();
	struct guard_hold hold;
	bool has;

	if (gate_has_left || !absolute || tag_path(dir, path, absolute) || !guard_lock(&hold))
		return false;
	has = own_at(absolute);
	guard_unlock(&hold);
	return has;
}

/*
 * From here on it is called what clients call it: the next generation will end with that name, too. Holding the guard.
 */
static void rename_tag(struct entry *e, const char *path)
{
	assert_guarded();
	struct entry old = *e, *hidden = gate_behind(e), *renamed;
	cleanup_room char *name = room_take();

	if (!name || !name_of_path(path, old.object.type, name) || !strcmp(name, old.name))
		return;
	table_remove(cpr__table, e); /* its duplicates are no longer known: they end with the next exec */
	renamed = entry_add(name, old.fd, old.kind, &old.object);
	if (!renamed)
		return;
	renamed->flags = old.flags;
	renamed->backlog = old.backlog;
	renamed->path_dev = old.path_dev;
	renamed->path_ino = old.path_ino;
	entry_judge(renamed);
	if (hidden)
		gate_renamed(hidden, renamed);
}

/* The program's own socket, bound at `old`, gives its place to the orphan. Holding the guard. */
static bool claim_unix_take_place(struct entry *own, struct entry *orphan, const char *old)
{
	assert_guarded();
	struct object fresh = own->object;
	struct entry *hidden = gate_behind(own);

	if (orphan->flags & ENTRY_OFFERED)
		offered_yield(orphan);
	if (!claim_onto(orphan, own->fd, &fresh))
		return false;
	next_unlink(old);
	if (hidden) /* it has called listen() already */
		gate_replaced(hidden, orphan);
	return true;
}

/* The orphan that a socket like `own` would be at this path. Holding the guard. */
static struct entry *orphan_for(const struct entry *own, const char *path)
{
	cleanup_room char *name = room_take();
	struct entry *e = orphan_at(path);

	if (!e && name && name_of_path(path, own->object.type, name) && gate_revive(name))
		e = orphan_at(path);
	return e && e->object.type == own->object.type ? e : NULL;
}

static __attribute__((noinline)) bool claim_unix_renamed(int fromdir, const char *from, int todir, const char *to,
							 bool done)
{
	cleanup_room char *old = room_take(), *new = room_take();
	struct guard_hold hold;
	struct entry *own, *orphan;
	int saved_errno = errno;
	bool claimed = false;

	if (!old || !new || tag_path(fromdir, from, old) || tag_path(todir, to, new) || !guard_lock(&hold))
		return false;
	own = own_at(done ? new : old);
	orphan = own && !done ? orphan_for(own, new) : NULL;
	if (orphan)
		claimed = claim_unix_take_place(own, orphan, old);
	else if (own && done)
		rename_tag(own, new);
	guard_unlock(&hold);
	errno = saved_errno;
	return claimed;
}

bool claim_rename(int fromdir, const char *from, int todir, const char *to)
{
	return unlikely(claim_may()) && from && to && claim_unix_renamed(fromdir, from, todir, to, false);
}

void claim_renamed(int fromdir, const char *from, int todir, const char *to)
{
	if (unlikely(tagging_has_paths))
		claim_unix_renamed(fromdir, from, todir, to, true);
}
