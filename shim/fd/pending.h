/* SPDX-License-Identifier: MIT */
/*
 * What was opened and bound, by descriptor, until it is asked what it is: most of it is closed before that, and then
 * has cost next to nothing.
 */
#ifndef CPR_FD_PENDING_H
#define CPR_FD_PENDING_H

#include "process/guard.h"

#include <stdint.h>
#include <sys/socket.h>

enum {
	PENDING_PATH_MAX = 111,
	PENDING_PAGE_SHIFT = 8,
	PENDING_PAGES = 1 << 8, /* the first 65,536 descriptors; what is beyond is tagged at once */
};

struct pending_path {
	/* of all notes of the process; 0: none. Written last, and looked at again after reading */
	_Atomic uint64_t order;
	uint8_t access;
	char path[PENDING_PATH_MAX + 8];
};

/*
 * Of one descriptor. The two newest paths: a vfork child writes into its parent's notes, and may reopen a number that
 * the parent holds, but hardly twice. Which one is true the kernel says, when it is asked: what stands here is only a
 * hint.
 */
struct noted {
	_Atomic uint64_t bound; /* order of the bind; 0: none */
	/* bound to port 0: nothing but the number tells it from another such socket, and it must not outlive that */
	_Atomic bool fleeting;
	int backlog;            /* -1: listen() was not called */
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

/* Is there anything noted of this number that the table does not know yet? */
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
 * Notes it. False: it cannot be (too long, not absolute, no memory): tag it at once. A signal handler may call these.
 */
bool pending_path(int fd, const char *path, int flags);
bool pending_bind(int fd, const struct sockaddr *addr, socklen_t len);

/* Once, at the start. */
void pending_init(void);

/* listen() was called. False: nothing is noted of a bind, the table may know. */
bool pending_listen(int fd, int backlog);

/*
 * The number is closed or given out again, and what it was bound to was fleeting; or its socket is a client's. All else
 * stays: a look whether this is a vfork child, which closes what its parent holds, would cost more than the note
 * saves.
 */
void pending_unbind(int fd);

/*
 * Asks the kernel what the number is, and tags it if it is anything that can be kept; the note goes. All of them in the
 * order in which they were made, holding the guard; a small stack will do.
 */
void pending_resolve(int fd);
void pending_resolve_all(void);

/*
 * Could settling make this name? A program that looks for a name of its own, descriptor by descriptor, should not pay
 * for it.
 */
bool pending_may_name(const char *name);

#endif
