/* SPDX-License-Identifier: MIT */
/* The table as it is read without the lock. */
#define _GNU_SOURCE
#include "view.h"

#include "attr.h"
#include "pool.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum { TRIES = 16, HOPS = 1000 };

/* What others may be writing meanwhile, in one piece at least. */
#define SEEN(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)

/* The thread sanitizer knows nothing of fences, and would call every field a race. */
#define UNTRACED __attribute__((no_sanitize("thread")))

/* ---- changing ---- */

/* By the bits of the hash that do not say which bucket. */
static inline uint8_t filter_bits(unsigned hashv)
{
	unsigned first = hashv >> 29, second = first + 1 + (hashv >> 26 & 7) * 7 / 8; /* another one */

	return (uint8_t)(1u << first | 1u << (second & 7));
}

static uint8_t filter_byte(const UT_hash_bucket *bucket)
{
	uint8_t bits = 0;

	for (const UT_hash_handle *hh = bucket->hh_head; hh; hh = hh->hh_next)
		bits |= filter_bits(hh->hashv);
	return bits;
}

static bool has_filter(const struct view *v)
{
	return v->filter != &v->maybe;
}

void view_free(struct view *v)
{
	if (has_filter(v))
		pool_free(v->filter, v->filter_mask + 1);
	v->filter = &v->maybe;
	v->filter_mask = 0;
}

/* For as many buckets as there are now. */
static void renew_filter(struct view *v, const UT_hash_table *hash)
{
	uint8_t *fresh = hash ? pool_alloc(hash->num_buckets) : NULL;

	view_free(v);
	if (!fresh)
		return;
	for (size_t i = 0; i < hash->num_buckets; i++)
		fresh[i] = filter_byte(&hash->buckets[i]);
	v->filter = fresh;
	v->filter_mask = hash->num_buckets - 1;
}

void view_bucket(struct view *v, const UT_hash_table *hash, unsigned hashv)
{
	if (hash && has_filter(v) && v->filter_mask == hash->num_buckets - 1)
		v->filter[hashv & v->filter_mask] = filter_byte(&hash->buckets[hashv & v->filter_mask]);
}

static void look(struct view *v, const UT_hash_table *hash)
{
	v->buckets = hash ? hash->buckets : &v->none;
	v->mask = hash ? hash->num_buckets - 1 : 0;
	if (hash ? !has_filter(v) || v->filter_mask != v->mask : has_filter(v))
		renew_filter(v, hash);
}

void view_init(struct view *v)
{
	v->maybe = 0xff;
	v->filter = &v->maybe;
	look(v, NULL);
}

void view_begin(struct view *v)
{
	if (v->depth++)
		return;
	atomic_store_explicit(&v->changes, v->changes + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
}

void view_end(struct view *v, const UT_hash_table *hash)
{
	if (--v->depth)
		return;
	look(v, hash);
	atomic_store_explicit(&v->changes, v->changes + 1, memory_order_release);
}

/* ---- reading ---- */

static UNTRACED inline bool unchanged(const struct view *v, unsigned changes)
{
	atomic_thread_fence(memory_order_acquire);
	return likely(atomic_load_explicit(&v->changes, memory_order_relaxed) == changes);
}

/* memcmp inline, for names of some tens of bytes. */
static UNTRACED inline bool same_bytes(const char *a, const char *b, size_t n)
{
	uint64_t x, y;

	if (n < sizeof(x)) {
		while (n && a[n - 1] == b[n - 1])
			n--;
		return !n;
	}
	for (size_t i = 0; i + sizeof(x) < n; i += sizeof(x)) {
		memcpy(&x, a + i, sizeof(x));
		memcpy(&y, b + i, sizeof(y));
		if (x != y)
			return false;
	}
	memcpy(&x, a + n - sizeof(x), sizeof(x)); /* the last ones: some of them a second time */
	memcpy(&y, b + n - sizeof(y), sizeof(y));
	return x == y;
}

/* Takes it if it is loose. Else the descriptor, or -EAGAIN for an orphan that is not. */
static UNTRACED inline __attribute__((always_inline)) int take(struct entry *e, bool *claimed)
{
	uint16_t flags = atomic_load_explicit(&e->flags, memory_order_acquire);

	while (flags & ENTRY_LOOSE)
		if (atomic_compare_exchange_weak(&e->flags, &flags, flags & ~(ENTRY_ORPHAN | ENTRY_LOOSE | ENTRY_INHERITED))) {
			*claimed = true;
			return SEEN(e->fd);
		}
	return flags & ENTRY_ORPHAN ? -EAGAIN : SEEN(e->fd);
}

/* One try; -EINTR: changed meanwhile. `claimed`: see view_claim; NULL: nothing is claimed. */
static UNTRACED inline __attribute__((always_inline)) int try(const struct view *v, const char *name, size_t len, int id, unsigned hashv, bool *claimed)
{
	unsigned changes = atomic_load_explicit(&v->changes, memory_order_acquire);
	const UT_hash_bucket *buckets = SEEN(v->buckets);
	unsigned mask = SEEN(v->mask), filter_mask = SEEN(v->filter_mask);
	const uint8_t *filter = SEEN(v->filter);
	const UT_hash_handle *hh;

	if (unlikely(changes & 1) || !unchanged(v, changes))
		return -EINTR;
	if (~SEEN(filter[hashv & filter_mask]) & filter_bits(hashv))
		return unchanged(v, changes) ? -ENOENT : -EINTR;
	hh = SEEN(buckets[hashv & mask].hh_head);
	for (int hops = 0; hh; hops++) { /* counted: a child of clone() may have been born with half a change and an even count */
		const struct entry *e = (const struct entry *)((const char *)hh - offsetof(struct entry, hh));
		const UT_hash_handle *next;
		int fd;

		if (!unchanged(v, changes))
			return -EINTR;
		next = SEEN(hh->hh_next);
		if (SEEN(hh->hashv) == hashv && SEEN(hh->key) == key_of(id) && SEEN(hh->keylen) == len) {
			if (!unchanged(v, changes)) /* the length, too, was a good one: the name ends before what is mapped does */
				return -EINTR;
			fd = atomic_load_explicit(&((struct entry *)e)->flags, memory_order_relaxed) & ENTRY_ORPHAN ? -EAGAIN : SEEN(e->fd);
			if (same_bytes((const char *)(e + 1), name, len)) {
				if (!unchanged(v, changes))
					return -EINTR;
				if (likely(!claimed))
					return fd;
				fd = take((struct entry *)e, claimed);
				return *claimed || unchanged(v, changes) ? fd : -EINTR;
			}
		}
		if (unlikely(hops > HOPS))
			return -EAGAIN;
		hh = next;
	}
	return unchanged(v, changes) ? -ENOENT : -EINTR;
}

UNTRACED int view_find(const struct view *v, const char *name, size_t len, int id)
{
	unsigned hashv = hash_of(name, len, id);

	for (int i = 0; i < TRIES; i++) {
		int r = try(v, name, len, id, hashv, NULL);

		if (likely(r != -EINTR))
			return r;
	}
	return -EAGAIN;
}

/* ---- claiming ---- */

/*
 * Of all who hold the guard, somebody may remove or move the entry between the last look at `changes` and the compare-and-swap. Then he has taken ENTRY_LOOSE from it first
 * (table_hold), and the swap fails; or the swap was first, and he leaves alone what is no orphan any more. Either way the memory is still that entry: see view_is_claimed_from.
 */
UNTRACED int view_claim(struct view *v, const char *name, size_t len, int id, bool *claimed)
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

bool view_is_claimed_from(struct view *v)
{
	atomic_thread_fence(memory_order_seq_cst); /* the entry is out of the table: who comes from now on does not find it */
	return atomic_load(&v->claiming) != 0;
}
