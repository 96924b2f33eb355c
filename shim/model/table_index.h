/* SPDX-License-Identifier: MIT */
/* The table as it is read without the lock: what stands beside uthash for that, and the tags' hash. */
#ifndef CPR_MODEL_TABLE_INDEX_H
#define CPR_MODEL_TABLE_INDEX_H

#include "model/table.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static inline unsigned hash_of(const char *name, size_t len, int id)
{
	return (unsigned)XXH3_64bits_withSeed(name, len, (uint64_t)(uint32_t)id * 0x9e3779b97f4a7c15u);
}

/*
 * uthash itself does not compare its key: we do. It is the id, which is in the cache line that a lookup reads. The name
 * follows the entry in memory.
 */
static inline const void *key_of(int id)
{
	return (const void *)(intptr_t)id;
}

/*
 * A lock, even one for readers, will not do: a handler of the program that interrupts its holder would wait for ever,
 * and to keep handlers out takes two system calls, ten times what the lookup takes. So a thread that changes the table
 * (holding the guard, signals blocked) makes `changes` odd before and even after, and a reader believes what it saw if
 * that was even and the same all the while. It asks after each pointer that it loads: then the pointer was a good one a
 * moment ago, and what it points to may have been freed since but is still mapped: the pool never unmaps.
 *
 * uthash's HASH_FIND follows a pointer unasked, and its buckets have 16 bytes each: those of a hundred
 * thousand entries are in no cache, nor is what is in front of an entry in its chain, and a lookup waits for memory two
 * or three times. Readers have an index of their own to uthash's entries, half as large, in which they wait for memory
 * once, and for the entry the second time.
 */
struct table_index {
	_Atomic unsigned changes;
	unsigned depth;          /* of the functions that change: they call each other */
	/*
	 * how many are in table_index_claim. A child that is born while one is never sees zero again, and uses a little
	 * more memory
	 */
	_Atomic unsigned claiming;
	/*
	 * Where each entry is: uthash's handle, below 16 bits of its hash. An entry stands at the first free place from
	 * its hash on (open addressing), and at least half of the places are free (zero). NULL: there was no memory for
	 * it.
	 */
	uint64_t *places;
	unsigned mask;
	bool stale; /* `places` lacks some that are there */
	/*
	 * A byte for each of uthash's buckets, in which each of its entries has two bits set: it says so of all but one
	 * in thirty that are not there, and such bytes are in the processor's cache when places and entries are not.
	 * Without memory for it, `maybe`.
	 */
	unsigned filter_mask;
	uint8_t *filter;
	uint64_t none; /* the only place of an empty table */
	uint8_t maybe;
};

/* In zeroed memory. */
void table_index_init(struct table_index *v);
void table_index_free(struct table_index *v);

/* Around each change; they nest. `hash`: uthash's table, or NULL when that is empty. */
void table_index_begin(struct table_index *v);
void table_index_end(struct table_index *v, const UT_hash_table *hash);

/*
 * For a thread that is about to change the table: what stands by this hash is wanted in a moment. And: may there be an
 * entry with it?
 */
void table_index_expect(const struct table_index *v, const UT_hash_table *hash, unsigned hashv);
bool table_index_may_have(const struct table_index *v, unsigned hashv);

/* uthash has this entry, or has it no more. Between table_index_begin and table_index_end. */
void table_index_came(struct table_index *v, const UT_hash_table *hash, const UT_hash_handle *entry);
void table_index_went(struct table_index *v, const UT_hash_table *hash, const UT_hash_handle *entry);

/* See table_peek. */
int table_index_find(const struct table_index *v, const char *name, size_t len, int id);

/* See table_claim. *claimed: it was this call that took it. */
int table_index_claim(struct table_index *v, const char *name, size_t len, int id, bool *claimed);

/*
 * Is a thread about to claim? An entry that has left the table since must not become another one before that thread has
 * seen that it is no orphan any more: its memory is not given out again until none is. It cannot be waited for: it may
 * be what this thread's handler has interrupted.
 */
bool table_index_is_claimed_from(struct table_index *v);

#endif
