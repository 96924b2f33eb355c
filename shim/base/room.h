/* SPDX-License-Identifier: MIT */
/*
 * A room for a path or a name, for the length of one call: the stack of a thread may have 16 KiB, and a handler's
 * less.
 */
#ifndef CPR_BASE_ROOM_H
#define CPR_BASE_ROOM_H

enum { ROOM_SIZE = 8192 };

/*
 * ROOM_SIZE bytes, not cleared; NULL: the kernel gives no more. Given back with room_give(), or by cleanup_room. No
 * lock; for any handler; keeps errno.
 */
char *room_take(void);
void room_give(char *room);

static inline void room_cleanup(char **room)
{
	room_give(*room);
}
#define cleanup_room __attribute__((cleanup(room_cleanup)))

#endif
