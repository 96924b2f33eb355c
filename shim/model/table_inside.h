/* SPDX-License-Identifier: MIT */
/* What table.c and table_names.c share. Include it before anything that includes uthash. */
#ifndef CPR_MODEL_TABLE_INSIDE_H
#define CPR_MODEL_TABLE_INSIDE_H

#include <stdbool.h>

/* By default uthash would exit the program, and call its malloc. */
static bool out_of_memory; /* as unlocked as the pool is */
#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(element) (out_of_memory = true)
#define uthash_malloc(size) pool_alloc(size)
#define uthash_free(memory, size) pool_free(memory, size)
#define HASH_FUNCTION(name, len, hashv) ((hashv) = hash_of(name, len, 0))
#include "model/table.h"
#include "base/pool.h"
#include "model/table_index.h"

#include <stddef.h>

/*
 * uthash doubles its buckets when one chain is longer than this. The default of ten makes four entries a bucket on
 * average, and four cache lines a lookup. No threshold gives one entry a bucket: a lower one doubles a table of a
 * million while nearly all buckets are empty. So the adding code sets it: 0, which means "now", when there are as many
 * entries as buckets; else never.
 */
#undef HASH_BKT_CAPACITY_THRESH
#define HASH_BKT_CAPACITY_THRESH threshold
enum { NEVER = 1 << 20 };

/*
 * An empty table of known size begins with all the buckets that it will need: doubling them a dozen times costs more
 * than adding the entries. Not locked, like the pool.
 */
static unsigned first_buckets_log2;
#undef HASH_INITIAL_NUM_BUCKETS
#undef HASH_INITIAL_NUM_BUCKETS_LOG2
#define HASH_INITIAL_NUM_BUCKETS (1u << first_buckets_log2)
#define HASH_INITIAL_NUM_BUCKETS_LOG2 first_buckets_log2
enum { BUCKETS_LOG2 = 5, BUCKETS_LOG2_MOST = 25 };

static inline unsigned threshold_of(const UT_hash_table *hash)
{
	return hash && hash->num_items >= hash->num_buckets ? 0 : NEVER;
}

enum {
	PAGE_SHIFT = TABLE_PAGE_SHIFT,
	PAGE_SLOTS = 1 << PAGE_SHIFT,
	PAGES = TABLE_PAGES,
};

struct family { /* all tags of one name */
	UT_hash_handle hh;
	int next_id;
	int live;
	struct row *first_orphan, *last_orphan;
	uint16_t len;
	char name[];
};

struct row {
	struct family *family; /* NULL: the id was the caller's own */
	struct row *beside;    /* another tag of the same descriptor; the first of them is in the index */
	struct row *next_orphan, *previous_orphan;
	struct entry entry;
	char name[];
};

enum { LINE = 64 };
_Static_assert(sizeof(void *) != 8 || offsetof(struct row, entry.hh.hh_next) % LINE == 0,
	       "what a lookup reads begins with a cache line");
_Static_assert(sizeof(void *) != 8 || sizeof(struct row) % LINE == LINE / 2, "and has 32 bytes of the name in it");
_Static_assert(offsetof(struct row, name) == offsetof(struct row, entry) + sizeof(struct entry),
	       "the name follows the entry: see model/table_index.c");

#define HH entry.hh /* where uthash finds its handle in a row */

typedef table_slot slot;

struct table {
	struct table_front front; /* first: see there */
	struct table_index view;
	struct row *rows;
	struct family *families;
	unsigned reserved_log2; /* buckets of the first entry's table */
	struct row *limbo; /* removed, but not yet free: see table_index_is_claimed_from */
};

static inline struct row *row_of(const struct entry *e)
{
	return e ? (struct row *)((char *)e - offsetof(struct row, entry)) : NULL;
}

static inline struct row *row_of_handle(const UT_hash_handle *hh)
{
	return (struct row *)((char *)hh - offsetof(struct row, HH));
}

static inline struct entry *entry_of(struct row *row)
{
	return row ? &row->entry : NULL;
}

/* Returns the slot of a number, or NULL. With `make` it makes the page of the slot. */
static inline slot *slot_at(const struct table *t, int fd, bool make)
{
	struct table *writable = (struct table *)t;
	slot *page;

	if (unlikely(fd < 0 || fd >> PAGE_SHIFT >= PAGES))
		return NULL;
	page = atomic_load_explicit(&writable->front.pages[fd >> PAGE_SHIFT], memory_order_acquire);
	if (!page && make) {
		page = pool_alloc(PAGE_SLOTS * sizeof(slot));
		atomic_store_explicit(&writable->front.pages[fd >> PAGE_SHIFT], page, memory_order_release);
	}
	return page ? &page[fd & (PAGE_SLOTS - 1)] : NULL;
}

static inline struct row *row_at(const struct table *t, int fd)
{
	slot *s = slot_at(t, fd, false);

	return s ? atomic_load_explicit(s, memory_order_relaxed) : NULL;
}

static inline const UT_hash_table *hash_table(const struct table *t)
{
	return t->rows ? t->rows->HH.tbl : NULL;
}

/* Returns all tags of a name; NULL: there are none, or no memory. A family without tags is kept for reuse. */
struct family *table_family_find(const struct table *t, const char *name);
struct family *table_family_get(struct table *t, const char *name);
void table_family_put(struct table *t, struct family *family);

/* The row is no orphan any more. Other rows of its descriptor stay as they are. */
void table_adopt_row(struct table *t, struct row *row);

static inline int id_after(int id)
{
	return id < INT32_MAX ? id + 1 : 0;
}

#endif
