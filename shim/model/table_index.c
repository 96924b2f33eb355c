/* SPDX-License-Identifier: MIT */
/* The table as it is read without the lock. */
#define _GNU_SOURCE
#include "model/table_index.h"

#include "base/attr.h"
#include "base/pool.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

enum { TRIES = 16, HOPS = 1000 };

/* What others may be writing meanwhile, in one piece at least. */
#define SEEN(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)

/* The thread sanitizer knows nothing of fences, and would call every field a race. */
#define UNTRACED __attribute__((no_sanitize("thread")))

/* ---- places ---- */

/* No kernel gives a program addresses of more than 48 bits that does not ask for them. */
enum { POINTER_BITS = 48, TAG_SHIFT = 16 };

static inline uint64_t tag_of(unsigned hashv)
{
	return hashv >> TAG_SHIFT;
}

static inline const UT_hash_handle *at_place(uint64_t place)
{
	return (const UT_hash_handle *)(uintptr_t)(place & (((uint64_t)1 << POINTER_BITS) - 1));
}

static uint64_t place_for(const UT_hash_handle *entry)
{
	return (uint64_t)(uintptr_t)entry | tag_of(entry->hashv) << POINTER_BITS;
}

static bool has_places(const struct table_index *v)
{
	return v->places && v->places != &v->none;
}

static void put(struct table_index *v, const UT_hash_handle *entry)
{
	unsigned at = entry->hashv & v->mask;

	while (v->places[at])
		at = (at + 1) & v->mask;
	v->places[at] = place_for(entry);
}

/* Entries behind it that were displaced from their place move up: else a lookup would stop at the gap. */
static void take_out(struct table_index *v, const UT_hash_handle *entry)
{
	unsigned gap = entry->hashv & v->mask, at;

	while (v->places[gap] != place_for(entry))
		gap = (gap + 1) & v->mask;
	for (at = (gap + 1) & v->mask; v->places[at]; at = (at + 1) & v->mask) {
		unsigned wanted = at_place(v->places[at])->hashv & v->mask;

		if (((at - wanted) & v->mask) < ((at - gap) & v->mask)) /* it stands between the two */
			continue;
		v->places[gap] = v->places[at];
		gap = at;
	}
	v->places[gap] = 0;
}

static void free_places(struct table_index *v)
{
	if (has_places(v))
		pool_free(v->places, (v->mask + (size_t)1) * sizeof(*v->places));
	v->places = NULL;
	v->mask = 0;
	v->stale = true;
}

/* Two places for each bucket, since there is at most one entry a bucket; more if uthash has stopped to add buckets. */
static void renew_places(struct table_index *v, const UT_hash_table *hash)
{
	size_t count = 2 * (size_t)hash->num_buckets;

	free_places(v);
	while (count < 2 * (size_t)hash->num_items)
		count *= 2;
	v->places = pool_alloc(count * sizeof(*v->places));
	if (!v->places)
		return;
	v->mask = (unsigned)count - 1;
	v->stale = false;
	for (size_t i = 0; i < hash->num_buckets; i++)
		for (const UT_hash_handle *hh = hash->buckets[i].hh_head; hh; hh = hh->hh_next)
			put(v, hh);
}

/* ---- the filter ---- */

/* By the bits of the hash that do not say which bucket. */
static inline uint8_t filter_bits(unsigned hashv)
{
	return (uint8_t)(1u << (hashv >> 29) | 1u << (hashv >> 26 & 7));
}

static inline bool filter_lets(uint8_t byte, unsigned hashv)
{
	return byte >> (hashv >> 29) & byte >> (hashv >> 26 & 7) & 1;
}

static uint8_t filter_byte(const UT_hash_bucket *bucket)
{
	uint8_t bits = 0;

	for (const UT_hash_handle *hh = bucket->hh_head; hh; hh = hh->hh_next)
		bits |= filter_bits(hh->hashv);
	return bits;
}

static bool has_filter(const struct table_index *v)
{
	return v->filter != &v->maybe;
}

static void free_filter(struct table_index *v)
{
	if (has_filter(v))
		pool_free(v->filter, v->filter_mask + 1);
	v->filter = &v->maybe;
	v->filter_mask = 0;
}

/* For as many buckets as there are now. */
static void renew_filter(struct table_index *v, const UT_hash_table *hash)
{
	uint8_t *fresh = pool_alloc(hash->num_buckets);

	free_filter(v);
	if (!fresh)
		return;
	for (size_t i = 0; i < hash->num_buckets; i++)
		fresh[i] = filter_byte(&hash->buckets[i]);
	v->filter = fresh;
	v->filter_mask = hash->num_buckets - 1;
}

static bool filters(const struct table_index *v, const UT_hash_table *hash)
{
	return hash && has_filter(v) && v->filter_mask == hash->num_buckets - 1;
}

/* ---- changing ---- */

void table_index_expect(const struct table_index *v, const UT_hash_table *hash, unsigned hashv)
{
	if (hash)
		__builtin_prefetch(&hash->buckets[hashv & (hash->num_buckets - 1)], 1);
	__builtin_prefetch(&v->places[hashv & v->mask], 1);
}

bool table_index_may_have(const struct table_index *v, unsigned hashv)
{
	return filter_lets(v->filter[hashv & v->filter_mask], hashv);
}

void table_index_came(struct table_index *v, const UT_hash_table *hash, const UT_hash_handle *entry)
{
	if (filters(v, hash))
		v->filter[entry->hashv & v->filter_mask] |= filter_bits(entry->hashv);
	if (!v->stale && has_places(v) && 2 * (size_t)hash->num_items <= v->mask + (size_t)1)
		put(v, entry);
	else
		v->stale = true;
}

void table_index_went(struct table_index *v, const UT_hash_table *hash, const UT_hash_handle *entry)
{
	if (filters(v, hash))
		v->filter[entry->hashv & v->filter_mask] = filter_byte(&hash->buckets[entry->hashv & v->filter_mask]);
	if (!v->stale)
		take_out(v, entry);
}

void table_index_free(struct table_index *v)
{
	free_filter(v);
	free_places(v);
}

static void table_index_look(struct table_index *v, const UT_hash_table *hash)
{
	if (!hash) {
		table_index_free(v);
		v->places = &v->none;
		v->stale = false;
		return;
	}
	if (!has_filter(v) || v->filter_mask != hash->num_buckets - 1)
		renew_filter(v, hash);
	if (v->stale)
		renew_places(v, hash);
}

void table_index_init(struct table_index *v)
{
	v->maybe = 0xff;
	v->filter = &v->maybe;
	table_index_look(v, NULL);
}

void table_index_begin(struct table_index *v)
{
	if (v->depth++)
		return;
	atomic_store_explicit(&v->changes, v->changes + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
}

void table_index_end(struct table_index *v, const UT_hash_table *hash)
{
	if (--v->depth)
		return;
	table_index_look(v, hash);
	atomic_store_explicit(&v->changes, v->changes + 1, memory_order_release);
}

/* ---- reading ---- */

static UNTRACED inline bool unchanged(const struct table_index *v, unsigned changes)
{
	atomic_thread_fence(memory_order_acquire);
	return likely(atomic_load_explicit(&v->changes, memory_order_relaxed) == changes);
}

/*
 * An inline memcmp, for names of some tens of bytes that are mostly equal. The next lookup's first instructions shall
 * run while this one waits for memory.
 */
static UNTRACED inline bool same_bytes(const char *a, const char *b, size_t n)
{
	typedef uint64_t pair __attribute__((vector_size(16)));
	pair x, y, differ;

	if (n < sizeof(x)) {
		while (n && a[n - 1] == b[n - 1])
			n--;
		return !n;
	}
	memcpy(&x, a + n - sizeof(x), sizeof(x)); /* the last ones: some of them a second time */
	memcpy(&y, b + n - sizeof(y), sizeof(y));
	differ = x ^ y;
	for (size_t i = 0; i + sizeof(x) < n; i += sizeof(x)) {
		memcpy(&x, a + i, sizeof(x));
		memcpy(&y, b + i, sizeof(y));
		differ |= x ^ y;
	}
	return !(differ[0] | differ[1]);
}

/* Takes it if it is loose. Else the descriptor, or -EAGAIN for an orphan that is not. */
static UNTRACED inline __attribute__((always_inline)) int take(struct entry *e, bool *claimed)
{
	uint16_t flags = atomic_load_explicit(&e->flags, memory_order_acquire);

	while (flags & ENTRY_LOOSE)
		if (atomic_compare_exchange_weak(&e->flags, &flags,
						 flags & ~(ENTRY_ORPHAN | ENTRY_LOOSE | ENTRY_INHERITED))) {
			*claimed = true;
			return SEEN(e->fd);
		}
	return flags & ENTRY_ORPHAN ? -EAGAIN : SEEN(e->fd);
}

/* One try; -EINTR: changed meanwhile. `claimed`: see table_index_claim; NULL: nothing is claimed. */
static UNTRACED inline __attribute__((always_inline)) int try(const struct table_index *v, const char *name, size_t len,
							      int id, unsigned hashv, bool *claimed)
{
	unsigned changes = atomic_load_explicit(&v->changes, memory_order_acquire);
	const uint64_t *places = SEEN(v->places);
	unsigned mask = SEEN(v->mask), filter_mask = SEEN(v->filter_mask);
	const uint8_t *filter = SEEN(v->filter);

	if (unlikely(changes & 1) || !unchanged(v, changes))
		return -EINTR;
	if (unlikely(!places))
		return -EAGAIN;
	if (!filter_lets(SEEN(filter[hashv & filter_mask]), hashv))
		return unchanged(v, changes) ? -ENOENT : -EINTR;
	/*
	 * bounded: memory that is no index any more may form a loop, and a child of clone() may have half a change with
	 * an even count
	 */
	for (unsigned hops = 0; hops < HOPS; hops++) {
		uint64_t place = SEEN(places[(hashv + hops) & mask]);
		const struct entry *e;
		int fd;

		if (!place)
			return unchanged(v, changes) ? -ENOENT : -EINTR;
		if (place >> POINTER_BITS != tag_of(hashv))
			continue;
		if (!unchanged(v, changes))
			return -EINTR;
		e = (const struct entry *)((const char *)at_place(place) - offsetof(struct entry, hh));
		if (SEEN(e->hh.key) != key_of(id) || SEEN(e->hh.keylen) != len)
			continue;
		if (!unchanged(v,
			       changes)) /* the length, too, was a good one: the name ends before what is mapped does */
			return -EINTR;
		if (!same_bytes((const char *)(e + 1), name, len))
			continue;
		fd = unlikely(atomic_load_explicit(&((struct entry *)e)->flags, memory_order_relaxed) & ENTRY_ORPHAN)
			     ? -EAGAIN
			     : SEEN(e->fd);
		if (!unchanged(v, changes))
			return -EINTR;
		if (likely(!claimed))
			return fd;
		fd = take((struct entry *)e, claimed);
		return *claimed || unchanged(v, changes) ? fd : -EINTR;
	}
	return -EAGAIN;
}

/* By itself, so that the first try has all registers for itself. */
static UNTRACED __attribute__((noinline)) int find_again(const struct table_index *v, const char *name, size_t len,
							 int id, unsigned hashv)
{
	int r = -EINTR;

	for (int i = 1; i < TRIES && r == -EINTR; i++)
		r = try(v, name, len, id, hashv, NULL);
	return r == -EINTR ? -EAGAIN : r;
}

UNTRACED int table_index_find(const struct table_index *v, const char *name, size_t len, int id)
{
	unsigned hashv = hash_of(name, len, id);
	int r = try(v, name, len, id, hashv, NULL);

	return likely(r != -EINTR) ? r : find_again(v, name, len, id, hashv);
}

/* ---- claiming ---- */

/*
 * A thread with the guard may remove or move the entry between the last look at `changes` and the compare-and-swap.
 * Either it has cleared ENTRY_LOOSE first (table_hold), and the swap fails. Or the swap was first, and that thread
 * leaves alone what is no orphan any more. In both cases the memory is still that entry: see
 * table_index_is_claimed_from.
 */
UNTRACED int table_index_claim(struct table_index *v, const char *name, size_t len, int id, bool *claimed)
{
	unsigned hashv = hash_of(name, len, id);
	int r = -EINTR;

	*claimed = false;
	atomic_fetch_add(&v->claiming, 1);
	atomic_thread_fence(memory_order_seq_cst);
	for (int i = 0; i < TRIES && r == -EINTR; i++)
		r = try(v, name, len, id, hashv, claimed);
	atomic_fetch_sub(&v->claiming, 1);
	return r == -EINTR ? -EAGAIN : r;
}

bool table_index_is_claimed_from(struct table_index *v)
{
	/* the entry is out of the table: a thread that comes from now on does not find it */
	atomic_thread_fence(memory_order_seq_cst);
	return atomic_load(&v->claiming) != 0;
}
