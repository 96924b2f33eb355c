/* SPDX-License-Identifier: MIT */
/* The names of a door, for the program and for the supervisor. */
#define _GNU_SOURCE
#include "fd/gate_inside.h"

#include "base/next.h"
#include "base/room.h"
#include "process/guard.h"

static struct entry *behind(int fd)
{
	struct entry *e = tagging_knows(fd) ? table_by_fd(cpr__table, fd) : NULL;

	return e && !(e->flags & ENTRY_ORPHAN) && object_still(&e->object, fd) ? gate_hidden_of(e) : NULL;
}

bool gate_stands_at(int fd)
{
	struct guard_hold hold;
	bool stands;

	if (likely(!atomic_load_explicit(&gate_is_closed, memory_order_relaxed)) || !tagging_knows(fd) ||
	    !guard_lock(&hold))
		return false;
	stands = behind(fd) != NULL;
	guard_unlock(&hold);
	return stands;
}

bool gate_name(int fd, struct sockaddr *addr, socklen_t *len)
{
	struct guard_hold hold;
	struct entry *hidden;
	bool named = false;

	if (!tagging_knows(fd) || !guard_lock(&hold))
		return false;
	hidden = behind(fd);
	named = hidden && !next_getsockname(hidden->fd, addr, len);
	guard_unlock(&hold);
	return named;
}

static __attribute__((noinline)) void put_door(struct text *t, const struct entry *e, const struct entry *h)
{
	cleanup_room char *name = room_take();
	struct sockaddr_storage addr = {0};
	socklen_t len = sizeof(addr);

	if (!name || next_getsockname(e->fd, (struct sockaddr *)&addr, &len) ||
	    tag_socket(&e->object, (struct sockaddr *)&addr, len, name))
		return;
	text_format(t, "door=%s %s", name, e->name);
	text_format(t, "\nbehind=%llu %llu %d\n", (unsigned long long)e->object.ino,
		    (unsigned long long)h->object.ino, h->fd);
}

void gate_put_doors(struct text *t)
{
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	for (const struct entry *h = table_first(cpr__table); h && t->used < t->size - 512; h = table_after(h)) {
		const struct entry *e = gate_hides(h) && h->kind == ENTRY_STREAM ? gate_shown_of(h) : NULL;

		if (e)
			put_door(t, e, h);
	}
	guard_unlock(&hold);
}
