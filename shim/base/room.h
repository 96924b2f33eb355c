/* SPDX-License-Identifier: MIT */
/*
 * A buffer for a path or a name, for the length of one call. The stack of a thread may have 16 KiB only, and that of a
 * handler less.
 */
#ifndef CPR_BASE_ROOM_H
#define CPR_BASE_ROOM_H

enum { ROOM_SIZE = 8192 };

/*
 * Takes ROOM_SIZE bytes, not cleared; NULL if the kernel gives no more. Give them back by room_give() or cleanup_room.
 * No lock. A signal handler may call these. They keep errno.
 */
char *room_take(void);
void room_give(char *room);

static inline void room_cleanup(char **room)
{
	room_give(*room);
}
#define cleanup_room __attribute__((cleanup(room_cleanup)))

#endif
