/* SPDX-License-Identifier: MIT */
/*
 * Opened paths and bound sockets, by descriptor, before the table has them. Most are closed before it is needed, and
 * then cost next to nothing.
 */
#ifndef CPR_FD_PENDING_H
#define CPR_FD_PENDING_H

#include "process/guard.h"

#include <stdint.h>
#include <sys/socket.h>

enum {
	PENDING_PATH_MAX = 111,
	PENDING_PAGE_SHIFT = 8,
	PENDING_PAGES = 1 << 8, /* the first 65,536 descriptors; others are tagged at once */
};

struct pending_path {
	/* over all notes of the process; 0: none. Written last, and checked again after a read */
	_Atomic uint64_t order;
	uint8_t access;
	char path[PENDING_PATH_MAX + 8];
};

/*
 * Notes for one descriptor, with the two newest paths. A vfork child writes into its parent's notes, and may reopen a
 * number that the parent holds, but hardly twice. A note is only a hint: the kernel is asked later.
 */
struct noted {
	_Atomic uint64_t bound; /* order of the bind; 0: none */
	/*
	 * bound to port 0: only the number tells it from another such socket, so the note must not outlive the number
	 */
	_Atomic bool fleeting;
	_Atomic int backlog;    /* -1: no listen() yet */
	socklen_t len;
	unsigned char addr[32];
	struct pending_path paths[2];
};

extern _Atomic(struct noted *) pending_pages[PENDING_PAGES];

static inline struct noted *pending_at(int fd)
{
	struct noted *page;

	if (unlikely((unsigned)fd >> PENDING_PAGE_SHIFT >= PENDING_PAGES))
		return NULL;
	page = atomic_load_explicit(&pending_pages[fd >> PENDING_PAGE_SHIFT], memory_order_acquire);
	return page ? page + (fd & ((1 << PENDING_PAGE_SHIFT) - 1)) : NULL;
}

/* Is there a note for this number that the table does not have yet? */
static inline bool pending_any(int fd)
{
	const struct noted *n = pending_at(fd);

	return n && (n->bound || n->paths[0].order || n->paths[1].order);
}

static inline bool pending_is_fleeting(int fd)
{
	const struct noted *n = pending_at(fd);

	return n && unlikely(atomic_load_explicit(&n->fleeting, memory_order_relaxed));
}

/*
 * Notes it. Returns false if that is impossible (too long, not absolute, no memory): then tag it at once. A signal
 * handler may call these.
 */
bool pending_path(int fd, const char *path, int flags);
bool pending_bind(int fd, const struct sockaddr *addr, socklen_t len);

/* Once, at the start. */
void pending_init(void);

/* For listen(). Returns false if there is no note of a bind: the table may have it. */
bool pending_listen(int fd, int backlog);

/*
 * The number is closed or reused, and was bound to port 0; or its socket is a client's. All other notes stay: a vfork
 * child may close what its parent holds, and that check would cost more than the note saves.
 */
void pending_unbind(int fd);

/*
 * Asks the kernel what the number is, tags it if it can be kept, and drops the note. pending_resolve_all does so for
 * all, in the order of the notes, holding the guard. Needs little stack.
 */
void pending_resolve(int fd);
void pending_resolve_all(void);

/* Could a note yield this name? A program that looks up names of its own should not pay for all notes. */
bool pending_may_name(const char *name);

#endif
