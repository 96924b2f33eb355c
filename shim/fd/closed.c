/* SPDX-License-Identifier: MIT */
/* Closed listeners become orphans again for a while. */
#define _GNU_SOURCE
#include "fd/closed.h"

#include "base/guarded.h"
#include "base/io.h"
#include "base/next.h"
#include "base/raw.h"
#include "fd/tagging.h"
#include "process/guard.h"
#include "process/roster.h"

#include <fcntl.h>
#include <stdatomic.h>

/* A server that reads its configuration anew binds again within this time; a port that is closed for good is refused
 * after it. */
#define AGAIN_NS (5 * INT64_C(1000000000))

static bool does_not(void)
{
	return false;
}

static void nothing_to_do(int fd)
{
	(void)fd;
}

static struct closed_hooks hooks = {does_not, nothing_to_do};
static _Atomic int64_t until;

void closed_begin(const struct closed_hooks *given)
{
	hooks = *given;
}

/*
 * Does the supervisor hold a duplicate? Then the port stays in use when the program closes its own. A bind() of the
 * same address would fail, as at a reload of squid, sshd or unbound. Its registration in an epoll set stays, too. A
 * socket that was bound to any port is not asked for again: a resolver's next query would get the port of the last one,
 * and its late answers.
 */
static bool is_held_elsewhere(const struct entry *e)
{
	return e->flags & ENTRY_GIVEN && (e->kind == ENTRY_STREAM || e->kind == ENTRY_DATAGRAM) &&
	       !tag_is_any_port(e->name) && hooks.serves();
}

/*
 * While it starts, a program may bind an address, close it, and bind it again (varnish does). A fresh socket would be
 * gone then. A claimed one may live on in the workers of the last generation, and the second bind() would find the port
 * in use. But a master that has forked closes what it leaves to its workers (haproxy).
 */
static bool is_only_tried(const struct entry *e)
{
	return e->flags & ENTRY_RAISED && !roster_has_workers();
}

static bool move_away(struct entry *e)
{
	int elsewhere = next_fcntl(e->fd, F_DUPFD_CLOEXEC, (void *)(long)(e->fd + 1)), r;

	if (elsewhere < 0)
		return false;
	table_change_begin(cpr__table);
	r = table_move(cpr__table, e, elsewhere);
	if (!r)
		table_make_orphan(cpr__table, e);
	table_change_end(cpr__table);
	if (r)
		raw_close(elsewhere);
	return !r;
}

bool closed_give_back(struct entry *e, bool *lives_on)
{
	bool held, moved;

	assert_guarded();
	*lives_on = false;
	if (e->flags & ENTRY_ORPHAN || e->fds > 1 || !object_still(&e->object, e->fd) || !roster_elect())
		return false;
	held = is_held_elsewhere(e);
	if (held) {
		atomic_store(&until, io_now() + AGAIN_NS);
		e->flags |= ENTRY_CLOSED;
	}
	/* a path is unlinked and bound anew: the kernel does not refuse that */
	moved = ((held && !e->path_ino) || is_only_tried(e)) && move_away(e);
	*lives_on = held || moved;
	return moved;
}

void closed_tell(int fd)
{
	hooks.closes(fd);
}

int64_t closed_until(void)
{
	return atomic_load(&until);
}

bool closed_is_over(int64_t now)
{
	int64_t end = atomic_load(&until);

	return end && now >= end && atomic_compare_exchange_strong(&until, &end, 0);
}
