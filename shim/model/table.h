/* SPDX-License-Identifier: MIT */
/* The table: (name, id) -> descriptor in a uthash, with an index by descriptor beside it. */
#ifndef CPR_MODEL_TABLE_H
#define CPR_MODEL_TABLE_H

#include "base/attr.h"
#include "model/tag.h"

#include <stdatomic.h>
#include <stdint.h>

#include <uthash.h> /* table.c has set it up before */

struct table;

enum entry_kind {
	ENTRY_STREAM,
	ENTRY_DATAGRAM,
	ENTRY_FIFO,
	ENTRY_DEVICE,
	ENTRY_FILE,
	ENTRY_MEMFD,
	ENTRY_API,
	ENTRY_KINDS
};

/* Flags of an entry. Those of ENTRY_SAVED_FLAGS go into the state. */
enum {
	ENTRY_KEPT = 1 << 0,       /* the rules keep it over a restart */
	ENTRY_LISTENING = 1 << 1,  /* listen() was called */
	ENTRY_CLOEXEC = 1 << 2,    /* the program's own flag, noted when the state is written */
	/* crossed the program's own exec without close-on-exec: visible, never closed by us */
	ENTRY_INHERITED = 1 << 3,
	ENTRY_V6ONLY = 1 << 4,
	ENTRY_ORPHAN = 1 << 5,     /* handed over, not claimed yet */
	ENTRY_SAVED_FLAGS = (1 << 6) - 1,
	ENTRY_RAISED = 1 << 6,     /* until this generation is ready, its backlog is the system's maximum */
	/*
	 * a listener that this program did not bind (fd/inherited.h): not kept, since each generation inherits it again
	 */
	ENTRY_STARTED_WITH = 1 << 8,
	ENTRY_STALE = 1 << 9,      /* an orphan that the last generation did not claim either */
	ENTRY_OFFERED = 1 << 10,   /* passed by a service manager, and not bound yet (fd/offered.h) */
	ENTRY_GIVEN = 1 << 11,     /* the supervisor has a duplicate */
	ENTRY_CLOSED = 1 << 12,    /* an orphan that the program itself closed (fd/closed.h) */
	ENTRY_LOOSE = 1 << 7,      /* an orphan that table_claim may take without the lock; in no list of orphans */
};

/*
 * One tag. Any file may read and write the fields outside the dashed lines. Names and numbers change only through the
 * functions. The fields are in the order of use: a lookup reads one cache line, from the middle of uthash's handle to
 * the name's first 32 bytes, which follow the entry.
 */
struct entry {
	struct object object;  /* what it was when it was tagged; may be outdated until it is checked */
	uint64_t path_dev;     /* unix sockets: the file in the directory, 0 if there is none */
	uint64_t path_ino;
	int backlog;           /* listen()'s; -1: not known */
	int queue;             /* in a listing: connections (stream) or bytes (datagram) that wait; -1: not known */
	/* ---- */
	int id;
	int fds;               /* number of descriptors of this entry (dup) */
	const char *name;
	UT_hash_handle hh;
	int fd;                /* the first of its descriptors */
	/* ---- */
	/*
	 * Any file may change all bits but ENTRY_ORPHAN and ENTRY_LOOSE, with |= and &= only: table_claim may change
	 * the flags at the same time.
	 */
	_Atomic uint16_t flags;
	enum entry_kind kind : 8;
	int access : 8;        /* opened paths: O_RDONLY, O_WRONLY, O_RDWR */
};

/*
 * Returns an empty table, or NULL without memory. The memory is the pool's: see base/pool.h for when these may be
 * called.
 */
struct table *table_new(void);
void table_free(struct table *t);

/* Announces the size of an empty table: `count` entries, and `names` bytes of names. Only makes it faster. */
void table_reserve(struct table *t, size_t count, size_t names);

/*
 * Adds (name, id) -> fd. The name is copied. Returns 0, and sets *made if `made` is not NULL. -EEXIST: the table has
 * the tag or the descriptor already. -EINVAL: the name is empty or over TAG_NAME_MAX. -EBADF: fd is negative or
 * impossibly high. -ENOMEM.
 */
int table_add(struct table *t, const char *name, int id, int fd, struct entry **made);

/* The same with the next id of this name: 0 for the first, and 0 again when none of the name is left. */
int table_add_next(struct table *t, const char *name, int fd, struct entry **made);

/*
 * Adds another tag to the descriptor of `beside`. The two entries share all that concerns the descriptor: closing,
 * duplicating, moving, claiming. table_by_fd returns one of them. Errors as table_add.
 */
int table_add_beside(struct table *t, const char *name, int id, struct entry *beside, struct entry **made);

/* table_add_beside if the descriptor has a tag already, else table_add. */
int table_add_also(struct table *t, const char *name, int id, int fd, struct entry **made);

struct entry *table_find(const struct table *t, const char *name, int id);

/*
 * Finds the descriptor of a tag that is no orphan, without the lock. Any thread and any signal handler may call it
 * while others change the table. `len` is the name's, 1 to TAG_NAME_MAX. Returns the descriptor; -ENOENT; -EAGAIN for
 * an orphan, or if the table kept changing: take the lock and use table_find.
 */
int table_peek(const struct table *t, const char *name, size_t len, int id);

/*
 * The same, and claims a loose orphan. If several threads ask at once, one claims it, and all get it. Not for a vfork
 * child: it changes the table.
 */
int table_claim(struct table *t, const char *name, size_t len, int id);

/*
 * Returns an entry of the descriptor, or NULL. May be called without the guard: an entry's memory stays mapped, and its
 * values may be a moment old. (A drain looks at its own listeners; only the program's own close removes those.)
 */
struct entry *table_by_fd(const struct table *t, int fd);

/* What every wrapped call reads, without a lock: the beginning of each table. Only model/table.c writes it. */
enum {
	TABLE_PAGE_SHIFT = 10,
	TABLE_PAGES = 1 << 14, /* 16 million descriptors: 16 times the kernel's default ceiling */
};

struct row;
typedef _Atomic(struct row *) table_slot;

struct table_front {
	_Atomic size_t orphans;
	_Atomic(table_slot *) pages[TABLE_PAGES]; /* by descriptor */
};

/* May this number be in the table? The answer is exact for a number that the program of this thread owns. */
static inline bool table_tracks(const struct table *t, int fd)
{
	struct table_front *front = (struct table_front *)t;
	table_slot *page;

	if (unlikely((unsigned)fd >> TABLE_PAGE_SHIFT >= TABLE_PAGES))
		return false;
	page = atomic_load_explicit(&front->pages[fd >> TABLE_PAGE_SHIFT], memory_order_acquire);
	return page && atomic_load_explicit(&page[fd & ((1 << TABLE_PAGE_SHIFT) - 1)], memory_order_relaxed);
}

/* Returns the first number >= fd that is in the table, or -1. */
int table_next_fd(const struct table *t, int fd);

/* Adds another descriptor to the entry. Returns 0, -EEXIST, -EBADF or -ENOMEM. */
int table_alias(struct table *t, struct entry *e, int fd);

/* Removes a closed number. All its tags go with its last number. Returns whether they went. */
bool table_forget_fd(struct table *t, int fd);
/* Removes this tag. Other tags of the same descriptor stay. */
void table_remove(struct table *t, struct entry *e);

/* Moves the entry's object to another number, and only there. Returns 0, -EBADF or -ENOMEM, which change nothing. */
int table_move(struct table *t, struct entry *e, int fd);

/* The orphans of a name, in the order of their ids: the first, and the next one. */
struct entry *table_orphan(const struct table *t, const char *name);
struct entry *table_orphan_after(const struct table *t, const struct entry *e);
void table_make_orphan(struct table *t, struct entry *e);

/*
 * Marks an orphan as loose (ENTRY_LOOSE): table_claim may take it without the lock. Call it before other threads see
 * the table. The guard does not protect such an orphan: another thread may claim it meanwhile. A thread that is about
 * to close or move one calls table_hold first, and then none claims it without the lock. table_hold returns false if it
 * is no orphan any more.
 */
void table_make_loose(struct table *t, struct entry *e);
bool table_hold(struct entry *e);

/* Claims the orphan, with all tags of its descriptor. */
void table_adopt(struct table *t, struct entry *e);

/* Makes all changes in between a single one for table_peek, which returns -EAGAIN meanwhile. They nest. */
void table_change_begin(struct table *t);
void table_change_end(struct table *t);

/* Iterate over all entries, oldest first. The current one may be removed once the next one is known. */
struct entry *table_first(const struct table *t);
struct entry *table_after(const struct entry *e);

size_t table_count(const struct table *t);

static inline size_t table_orphans(const struct table *t)
{
	return atomic_load_explicit(&((struct table_front *)t)->orphans, memory_order_relaxed);
}

#endif
