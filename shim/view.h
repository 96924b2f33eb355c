/* SPDX-License-Identifier: MIT */
/* The table as it is read without the lock: what stands beside uthash for that, and the tags' hash. */
#ifndef CPR_VIEW_H
#define CPR_VIEW_H

#include "table.h"

#include <stdatomic.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static inline unsigned hash_of(const char *name, size_t len, int id)
{
	return (unsigned)XXH3_64bits_withSeed(name, len, (uint64_t)(uint32_t)id * 0x9e3779b97f4a7c15u);
}

/* uthash's key is only ours to compare: the id, whose place is in the line that a lookup reads. The name stands behind the entry. */
static inline const void *key_of(int id)
{
	return (const void *)(intptr_t)id;
}

/*
 * A lock, even one for readers, will not do: a handler of the program that interrupts its holder would wait for ever, and to keep handlers out takes two system
 * calls, ten times what the lookup takes. So whoever changes the table (holding the guard, signals blocked) makes `changes` odd before and even after, and a reader
 * believes what it saw if that was even and the same all the while. uthash's own HASH_FIND cannot be used for that: it follows a pointer before anybody can ask
 * whether it still was one. The reader follows the chains itself, and asks after each pointer that it loads. Then the pointer was a good one a moment ago, and
 * what it points to may have been freed since but is still mapped: the pool never unmaps.
 */
struct view {
	_Atomic unsigned changes;
	unsigned depth;          /* of the functions that change: they call each other */
	_Atomic unsigned claiming; /* how many are in view_claim. A child that is born while one is never sees zero again, and uses a little more memory */
	UT_hash_bucket *buckets; /* uthash's, or `none` */
	unsigned mask;           /* of the bucket array */
	/*
	 * A byte for each bucket, in which each of its entries has two bits set: it says so of all but one in forty that are not there, and such bytes are in the
	 * processor's cache when buckets and entries are not. Without memory for it, `maybe`.
	 */
	unsigned filter_mask;
	uint8_t *filter;
	UT_hash_bucket none;
	uint8_t maybe;
};

/* In zeroed memory. */
void view_init(struct view *v);
void view_free(struct view *v);

/* Around each change; they nest. `hash`: uthash's table, or NULL when that is empty. */
void view_begin(struct view *v);
void view_end(struct view *v, const UT_hash_table *hash);

/* An entry with this hash has come or gone. Between view_begin and view_end. */
void view_bucket(struct view *v, const UT_hash_table *hash, unsigned hashv);

/* See table_peek. */
int view_find(const struct view *v, const char *name, size_t len, int id);

/* See table_claim. *claimed: it was this call that took it. */
int view_claim(struct view *v, const char *name, size_t len, int id, bool *claimed);

/*
 * Is somebody about to claim? An entry that has left the table since must not become another one before he has seen that it is no orphan any more: its memory
 * is not given out again until nobody is. It cannot be waited for: he may be what this thread's handler has interrupted.
 */
bool view_is_claimed_from(struct view *v);

#endif
