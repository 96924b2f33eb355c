/* SPDX-License-Identifier: MIT */
/* Rooms: some stay mapped, so that most calls find one. */
#include "base/room.h"

#include "base/attr.h"
#include "base/pool.h"

#include <stdatomic.h>

enum { IDLE = 8 };

/*
 * A thread that is cancelled while it has a room loses it. So does a child that is forked meanwhile. Another is mapped.
 */
static _Atomic(char *) idle[IDLE];

char *room_take(void)
{
	for (int i = 0; i < IDLE; i++) {
		char *room =
			atomic_load_explicit(&idle[i], memory_order_relaxed) ? atomic_exchange(&idle[i], NULL) : NULL;

		if (room)
			return room;
	}
	return pool_page(ROOM_SIZE);
}

void room_give(char *room)
{
	for (int i = 0; room && i < IDLE; i++) {
		char *none = NULL;

		if (atomic_compare_exchange_strong(&idle[i], &none, room))
			return;
	}
	if (room)
		pool_unpage(room, ROOM_SIZE);
}
