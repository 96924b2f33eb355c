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
	ENTRY_KEPT = 1 << 0,       /* the rules say that it survives a restart */
	ENTRY_LISTENING = 1 << 1,  /* listen() was called */
	ENTRY_CLOEXEC = 1 << 2,    /* the program's own flag, noted when the state is written */
	/* came through the program's own exec without close-on-exec: visible, never closed by us */
	ENTRY_INHERITED = 1 << 3,
	ENTRY_V6ONLY = 1 << 4,
	ENTRY_ORPHAN = 1 << 5,     /* handed over, not claimed yet */
	ENTRY_SAVED_FLAGS = (1 << 6) - 1,
	ENTRY_RAISED = 1 << 6,     /* its backlog is the system's greatest until this generation is ready */
	/* a listener that this program did not bind (fd/inherited.h): never kept, it comes again as it came */
	ENTRY_STARTED_WITH = 1 << 8,
	ENTRY_STALE = 1 << 9,      /* an orphan that the last generation had not asked for either */
	ENTRY_OFFERED = 1 << 10,   /* one that a service manager passed, and no bind() has asked for (fd/offered.h) */
	ENTRY_GIVEN = 1 << 11,     /* the supervisor has a duplicate */
	ENTRY_CLOSED = 1 << 12,    /* an orphan that the program itself has closed (fd/closed.h) */
	ENTRY_LOOSE = 1 << 7,      /* an orphan that table_claim may take without the lock; in no list of orphans */
};

/*
 * One tag. Any file may read and write the fields outside the dashed lines. Names and numbers change only through the
 * functions. The fields are in the order of use: a lookup reads one cache line, from the middle of uthash's handle to
 * the name's first 32 bytes, which follow the entry.
 */
struct entry {
	struct object object;  /* what it was when it was tagged: an entry is a belief until this is checked */
	uint64_t path_dev;     /* unix sockets: the file in the directory, 0 when there is none */
	uint64_t path_ino;
	int backlog;           /* listen()'s; -1: not known */
	int queue;             /* when listed: connections (stream) or bytes (datagram) that wait; -1: not known */
	/* ---- */
	int id;
	int fds;               /* how many descriptors are this entry's (dup) */
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
 * An empty table, or NULL without memory. The memory is the pool's: see base/pool.h for when these may be called.
 */
struct table *table_new(void);
void table_free(struct table *t);

/* For an empty table: it will have so many entries, whose names have so many bytes together. Only makes it quicker. */
void table_reserve(struct table *t, size_t count, size_t names);

/*
 * Puts (name, id) -> fd. 0 and *made (may be NULL); -EEXIST: the tag, or the descriptor, stands in the table already;
 * -EINVAL: empty or over TAG_NAME_MAX; -EBADF: a negative or impossibly high fd; -ENOMEM. The name is copied.
 */
int table_add(struct table *t, const char *name, int id, int fd, struct entry **made);

/* The same with the id that is next for this name: 0 for the first, and again 0 when none of the name is left. */
int table_add_next(struct table *t, const char *name, int fd, struct entry **made);

/*
 * Another tag of the descriptor that `beside` has, whose entry it then shares in all that is said by the number:
 * closing, duplicating, moving it, and claiming. table_by_fd says one of them. As table_add.
 */
int table_add_beside(struct table *t, const char *name, int id, struct entry *beside, struct entry **made);

/* The one or the other of these: whether the number has tags already or not. */
int table_add_also(struct table *t, const char *name, int id, int fd, struct entry **made);

struct entry *table_find(const struct table *t, const char *name, int id);

/*
 * The descriptor of a tag that is no orphan, without the lock, from any thread and any signal handler, while others
 * change the table. `len`: the name's, 1 to TAG_NAME_MAX. The descriptor; -ENOENT; -EAGAIN: an orphan, or the table
 * would not hold still: take the lock and use table_find.
 */
int table_peek(const struct table *t, const char *name, size_t len, int id);

/*
 * The same, and a loose orphan is the program's from here on: of several threads that ask at once, one claims it, and
 * all get it. Not for a vfork child: it changes the table.
 */
int table_claim(struct table *t, const char *name, size_t len, int id);

/*
 * May be asked without the guard: an entry's memory stays mapped, and what it says may be a moment old (a drain looks
 * at its own listeners, which nothing removes then but the program's own close).
 */
struct entry *table_by_fd(const struct table *t, int fd);

/*
 * What every wrapped call looks at, without a lock and without a call: the beginning of each table. Only model/table.c
 * writes it.
 */
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

/* May this number be in the table? A number that this thread's program owns is answered exactly. */
static inline bool table_tracks(const struct table *t, int fd)
{
	struct table_front *front = (struct table_front *)t;
	table_slot *page;

	if (unlikely((unsigned)fd >> TABLE_PAGE_SHIFT >= TABLE_PAGES))
		return false;
	page = atomic_load_explicit(&front->pages[fd >> TABLE_PAGE_SHIFT], memory_order_acquire);
	return page && atomic_load_explicit(&page[fd & ((1 << TABLE_PAGE_SHIFT) - 1)], memory_order_relaxed);
}

/* The first number from `fd` on that is in the table, or -1. */
int table_next_fd(const struct table *t, int fd);

/* Another descriptor of the same entry. 0, -EEXIST, -EBADF, -ENOMEM. */
int table_alias(struct table *t, struct entry *e, int fd);

/* The number is closed: all its tags go with its last number. Returns whether they are gone. */
bool table_forget_fd(struct table *t, int fd);
/* This tag goes; others of the same descriptor stay. */
void table_remove(struct table *t, struct entry *e);

/* The entry's object stands at another number now, and only there. 0, -EBADF, -ENOMEM (then nothing changed). */
int table_move(struct table *t, struct entry *e, int fd);

/* The orphans of a name, in the order of their ids: the first, and the one after. */
struct entry *table_orphan(const struct table *t, const char *name);
struct entry *table_orphan_after(const struct table *t, const struct entry *e);
void table_make_orphan(struct table *t, struct entry *e);

/*
 * An orphan that is asked for by its tag alone, and that needs nothing but to be given: ENTRY_LOOSE. Before others can
 * see the table. Holding the guard is not enough to act on such a one: another thread may claim it meanwhile. A thread
 * that means to close or move one asks table_hold first: after it, none claims it without the lock. False: it is no
 * orphan (any more).
 */
void table_make_loose(struct table *t, struct entry *e);
bool table_hold(struct entry *e);

/* An orphan no more, and with it all tags of its descriptor. */
void table_adopt(struct table *t, struct entry *e);

/* Between these, all changes are one to table_peek, which says -EAGAIN meanwhile. They nest. */
void table_change_begin(struct table *t);
void table_change_end(struct table *t);

/* Every entry, oldest first. The one at hand may be removed if the next was asked for before. */
struct entry *table_first(const struct table *t);
struct entry *table_after(const struct entry *e);

size_t table_count(const struct table *t);

static inline size_t table_orphans(const struct table *t)
{
	return atomic_load_explicit(&((struct table_front *)t)->orphans, memory_order_relaxed);
}

#endif
