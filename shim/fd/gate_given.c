/* SPDX-License-Identifier: MIT */
/* Doors that a process was started with: its parent's gate is its own, which it learns by a request. */
#define _GNU_SOURCE
#include "fd/gate_inside.h"

#include "base/io.h"
#include "base/raw.h"
#include "fd/entry.h"
#include "model/protocol.h"
#include "process/guard.h"

#include <errno.h>

static struct entry *gate_find_door(uint64_t ino)
{
	for (struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (e->kind == ENTRY_STREAM && !(e->flags & ENTRY_ORPHAN) && e->object.ino == ino &&
		    object_still(&e->object, e->fd))
			return e;
	return NULL;
}

int gate_stand_before(uint64_t door, int *listener)
{
	struct guard_hold hold;
	struct object object;
	struct entry *e;
	int r = 0;

	if (*listener < 0 || object_of(*listener, &object) || !guard_lock(&hold))
		return -EBADF;
	e = gate_find_door(door);
	if (!e) {
		r = -ENOENT;
	} else if (!gate_hidden_of(e)) {
		*listener = io_move_up(*listener, PROTOCOL_HIGH);
		r = gate_hide(e, *listener, &object) ? 0 : -ENOMEM;
		if (!r)
			*listener = -1;
	}
	guard_unlock(&hold);
	return r;
}
