/* SPDX-License-Identifier: MIT */
/* The index by which the table is read without the lock, and the tags' hash. */
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
 * uthash compares no key: we do. Its key is the id, in the cache line that a lookup reads anyway. The name follows the
 * entry in memory.
 */
static inline const void *key_of(int id)
{
	return (const void *)(intptr_t)id;
}

/*
 * A lock is no solution, not even for readers. A handler of the program that interrupts its holder would wait without
 * end. To block handlers takes two system calls, ten times the time of a lookup. So a thread that changes the table (it
 * holds the guard, with signals blocked) makes `changes` odd before and even after. A reader trusts what it read if
 * `changes` was even and stayed the same. It checks after each pointer: the pointer was then good a moment ago. What it
 * points to may be freed since, but is mapped: the pool never unmaps.
 *
 * uthash's HASH_FIND follows pointers without such a check. Its buckets have 16 bytes each, and those of a hundred
 * thousand entries are in no cache. Nor are the entries earlier in a chain. So a lookup waits for memory two or three
 * times. Readers have an index of their own to uthash's entries, half as large: they wait for memory once in it, and
 * once for the entry.
 */
struct table_index {
	_Atomic unsigned changes;
	unsigned depth;          /* of the changing functions, which call each other */
	/*
	 * threads in table_index_claim. A child that is forked amid one never sees zero again, and uses a little more
	 * memory
	 */
	_Atomic unsigned claiming;
	/*
	 * The place of each entry: the address of uthash's handle, below 16 bits of its hash. An entry is at the first
	 * free place from its hash on (open addressing). At least half of the places are free (zero). NULL: there was
	 * no memory.
	 */
	uint64_t *places;
	unsigned mask;
	bool stale; /* `places` lacks some entries */
	/*
	 * A filter: one byte for each of uthash's buckets, in which each entry sets two bits. It answers for all but
	 * one in thirty missing tags. Its bytes are in the processor's cache when places and entries are not. Without
	 * memory for it, `maybe`.
	 */
	unsigned filter_mask;
	uint8_t *filter;
	uint64_t none; /* the only place of an empty table */
	uint8_t maybe;
};

/* Initialises *v, in zeroed memory. */
void table_index_init(struct table_index *v);
void table_index_free(struct table_index *v);

/* Call these around each change; they nest. `hash` is uthash's table, or NULL if that is empty. */
void table_index_begin(struct table_index *v);
void table_index_end(struct table_index *v, const UT_hash_table *hash);

/*
 * For a thread that is about to change the table: prefetches what belongs to this hash. The second function: may there
 * be an entry with this hash?
 */
void table_index_expect(const struct table_index *v, const UT_hash_table *hash, unsigned hashv);
bool table_index_may_have(const struct table_index *v, unsigned hashv);

/* uthash has added this entry, or removed it. Call these between table_index_begin and table_index_end. */
void table_index_came(struct table_index *v, const UT_hash_table *hash, const UT_hash_handle *entry);
void table_index_went(struct table_index *v, const UT_hash_table *hash, const UT_hash_handle *entry);

/* See table_peek. */
int table_index_find(const struct table_index *v, const char *name, size_t len, int id);

/* See table_claim. *claimed: this call claimed it. */
int table_index_claim(struct table_index *v, const char *name, size_t len, int id, bool *claimed);

/*
 * Is a thread about to claim? Memory of removed entries is not reused until none is: such a thread must first see that
 * its entry is no orphan any more. We cannot wait for the thread: a handler on this thread may have interrupted it.
 */
bool table_index_is_claimed_from(struct table_index *v);

#endif
