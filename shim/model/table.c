/* SPDX-License-Identifier: MIT */
/* The table. Two hashes (tags; names, for counting ids and finding orphans) and a two-level array by descriptor. */
#define _GNU_SOURCE
#include <stdbool.h>

/* uthash's own answers would exit a stranger's process and call its malloc. */
static bool out_of_memory; /* as unlocked as the pool is */
#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(element) (out_of_memory = true)
#define uthash_malloc(size) pool_alloc(size)
#define uthash_free(memory, size) pool_free(memory, size)
#define HASH_FUNCTION(name, len, hashv) ((hashv) = hash_of(name, len, 0))
#include "model/table.h"

#include "base/guarded.h"
#include "base/attr.h"
#include "base/pool.h"
#include "model/table_index.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

/*
 * uthash doubles its buckets when one chain is longer than this: ten, which makes four entries a bucket on average, and
 * four cache lines a lookup. By the longest chain alone, one entry a bucket cannot be had: with a lower threshold a
 * table of a million is doubled while nearly all buckets are empty. So whoever adds says what it is at that moment: 0,
 * which means "now", when as many entries are there as buckets; else never.
 */
#undef HASH_BKT_CAPACITY_THRESH
#define HASH_BKT_CAPACITY_THRESH threshold
enum { NEVER = 1 << 20 };

/*
 * A table that is empty and knows how many will come begins with as many buckets as it will need: to double them a
 * dozen times is dearer than all that is put in. As unlocked as the pool is.
 */
static unsigned first_buckets_log2;
#undef HASH_INITIAL_NUM_BUCKETS
#undef HASH_INITIAL_NUM_BUCKETS_LOG2
#define HASH_INITIAL_NUM_BUCKETS (1u << first_buckets_log2)
#define HASH_INITIAL_NUM_BUCKETS_LOG2 first_buckets_log2
enum { BUCKETS_LOG2 = 5, BUCKETS_LOG2_MOST = 25 };

static unsigned threshold_of(const UT_hash_table *hash)
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
	struct row *limbo; /* gone, but not yet free: see table_index_is_claimed_from */
};

static struct row *row_of(const struct entry *e)
{
	return e ? (struct row *)((char *)e - offsetof(struct row, entry)) : NULL;
}

static struct row *row_of_handle(const UT_hash_handle *hh)
{
	return (struct row *)((char *)hh - offsetof(struct row, HH));
}

static struct entry *entry_of(struct row *row)
{
	return row ? &row->entry : NULL;
}

static const UT_hash_table *hash_table(const struct table *t)
{
	return t->rows ? t->rows->HH.tbl : NULL;
}

void table_change_begin(struct table *t)
{
	table_index_begin(&t->view);
}

void table_change_end(struct table *t)
{
	table_index_end(&t->view, hash_table(t));
}

struct table *table_new(void)
{
	struct table *t = pool_alloc(sizeof(*t));

	if (t)
		table_index_init(&t->view);
	return t;
}

void table_reserve(struct table *t, size_t count, size_t names)
{
	t->reserved_log2 = BUCKETS_LOG2;
	while (t->reserved_log2 < BUCKETS_LOG2_MOST && (size_t)1 << t->reserved_log2 < count)
		t->reserved_log2++;
	pool_reserve(count * (sizeof(struct row) + LINE) + names);
}

/* The slot of a number, making its page if asked to; NULL when there is none. */
static slot *slot_at(const struct table *t, int fd, bool make)
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

static struct row *row_at(const struct table *t, int fd)
{
	slot *s = slot_at(t, fd, false);

	return s ? atomic_load_explicit(s, memory_order_relaxed) : NULL;
}

struct entry *table_by_fd(const struct table *t, int fd)
{
	return entry_of(row_at(t, fd));
}

static struct family *family_find(const struct table *t, const char *name)
{
	struct family *family;

	HASH_FIND(hh, t->families, name, strlen(name), family);
	return family;
}

static struct family *family_get(struct table *t, const char *name)
{
	struct family *family = family_find(t, name);
	unsigned threshold = threshold_of(t->families ? t->families->hh.tbl : NULL);
	size_t len = strlen(name);

	if (family)
		return family;
	family = pool_alloc(sizeof(*family) + len + 1);
	if (!family)
		return NULL;
	memcpy(family->name, name, len + 1);
	family->len = (uint16_t)len;
	out_of_memory = false;
	first_buckets_log2 = BUCKETS_LOG2;
	HASH_ADD_KEYPTR(hh, t->families, family->name, len, family);
	if (out_of_memory) {
		pool_free(family, sizeof(*family) + len + 1);
		return NULL;
	}
	return family;
}

static void family_put(struct table *t, struct family *family)
{
	if (family->live)
		return;
	HASH_DELETE(hh, t->families, family);
	pool_free(family, sizeof(*family) + family->len + 1);
}

static struct row *find_row(const struct table *t, const char *name, size_t len, int id, unsigned hashv)
{
	const UT_hash_table *hash = hash_table(t);
	UT_hash_handle *hh = hash ? hash->buckets[hashv & (hash->num_buckets - 1)].hh_head : NULL;

	for (; hh; hh = hh->hh_next) {
		struct row *row = row_of_handle(hh);

		if (hh->hashv == hashv && hh->key == key_of(id) && hh->keylen == len && !memcmp(row->name, name, len))
			return row;
	}
	return NULL;
}

/* Without a look whether the tag stands already. */
static int add_row(struct table *t, const char *name, size_t len, int id, int fd, unsigned hashv, struct row **made)
{
	unsigned threshold = threshold_of(hash_table(t));
	slot *s = slot_at(t, fd, true);
	struct row *row;

	if (!s)
		return fd < 0 || fd >> PAGE_SHIFT >= PAGES ? -EBADF : -ENOMEM;
	if (atomic_load_explicit(s, memory_order_relaxed))
		return -EEXIST;
	row = pool_alloc(sizeof(*row) + len + 1);
	if (!row)
		return -ENOMEM;
	memcpy(row->name, name, len); /* and a NUL, which is there */
	row->entry.name = row->name;
	row->entry.id = id;
	row->entry.fd = fd;
	row->entry.fds = 1;
	row->entry.backlog = row->entry.queue = -1;
	out_of_memory = false;
	first_buckets_log2 = t->reserved_log2 ? t->reserved_log2 : BUCKETS_LOG2;
	table_change_begin(t);
	HASH_ADD_KEYPTR_BYHASHVALUE(HH, t->rows, key_of(id), len, hashv, row);
	if (!out_of_memory)
		table_index_came(&t->view, hash_table(t), &row->HH);
	table_change_end(t);
	if (out_of_memory) {
		pool_free(row, sizeof(*row) + len + 1);
		return -ENOMEM;
	}
	atomic_store_explicit(s, row, memory_order_release);
	*made = row;
	return 0;
}

int table_add(struct table *t, const char *name, int id, int fd, struct entry **made)
{
	assert_guarded();
	size_t len = strnlen(name, TAG_NAME_MAX + 1);
	struct row *row;
	unsigned hashv;
	int r;

	if (!len || len > TAG_NAME_MAX)
		return -EINVAL;
	hashv = hash_of(name, len, id);
	table_index_expect(&t->view, hash_table(t), hashv);
	if (table_index_may_have(&t->view, hashv) && find_row(t, name, len, id, hashv))
		return -EEXIST;
	r = add_row(t, name, len, id, fd, hashv, &row);
	if (!r && made)
		*made = &row->entry;
	return r;
}

static int id_after(int id)
{
	return id < INT32_MAX ? id + 1 : 0;
}

int table_add_next(struct table *t, const char *name, int fd, struct entry **made)
{
	assert_guarded();
	size_t len = strnlen(name, TAG_NAME_MAX + 1);
	struct family *family;
	struct row *row;
	int r;

	if (!len || len > TAG_NAME_MAX)
		return -EINVAL;
	family = family_get(t, name);
	if (!family)
		return -ENOMEM;
	while (table_find(t, name, family->next_id)) /* the API, or another generation, had that one */
		family->next_id = id_after(family->next_id);
	r = add_row(t, name, len, family->next_id, fd, hash_of(name, len, family->next_id), &row);
	if (r) {
		family_put(t, family);
		return r;
	}
	row->family = family;
	family->next_id = id_after(family->next_id);
	family->live++;
	if (made)
		*made = &row->entry;
	return 0;
}

struct entry *table_find(const struct table *t, const char *name, int id)
{
	assert_guarded();
	size_t len = strlen(name);

	return entry_of(find_row(t, name, len, id, hash_of(name, len, id)));
}

int table_peek(const struct table *t, const char *name, size_t len, int id)
{
	return table_index_find(&t->view, name, len, id);
}

int table_claim(struct table *t, const char *name, size_t len, int id)
{
	bool claimed;
	int fd = table_index_claim(&t->view, name, len, id, &claimed);

	if (claimed)
		atomic_fetch_sub_explicit(&t->front.orphans, 1, memory_order_relaxed);
	return fd;
}

int table_alias(struct table *t, struct entry *e, int fd)
{
	assert_guarded();
	slot *s = slot_at(t, fd, true);

	if (!s)
		return fd < 0 || fd >> PAGE_SHIFT >= PAGES ? -EBADF : -ENOMEM;
	if (atomic_load_explicit(s, memory_order_relaxed))
		return -EEXIST;
	atomic_store_explicit(s, row_of(e), memory_order_release);
	e->fds++;
	return 0;
}

int table_next_fd(const struct table *t, int fd)
{
	for (; fd >= 0 && fd >> PAGE_SHIFT < PAGES; fd++) {
		if (!slot_at(t, fd, false))
			fd |= PAGE_SLOTS - 1; /* no page: none of its numbers */
		else if (row_at(t, fd))
			return fd;
	}
	return -1;
}

/* The lowest number of an entry, or, if `empty`, none any more. Walks the whole index: only for what was duplicated. */
static int sweep_slots(struct table *t, const struct entry *e, bool empty)
{
	for (int fd = table_next_fd(t, 0); fd >= 0; fd = table_next_fd(t, fd + 1)) {
		if (table_by_fd(t, fd) != e)
			continue;
		if (!empty)
			return fd;
		atomic_store_explicit(slot_at(t, fd, false), NULL, memory_order_release);
	}
	return -1;
}

static void clear_slot(struct table *t, int fd)
{
	slot *s = slot_at(t, fd, false);

	if (s)
		atomic_store_explicit(s, NULL, memory_order_release);
}

bool table_forget_fd(struct table *t, int fd)
{
	assert_guarded();
	struct row *row = row_at(t, fd);

	if (!row)
		return false;
	if (row->entry.fds == 1) {
		table_remove(t, &row->entry);
		return true;
	}
	clear_slot(t, fd);
	row->entry.fds--;
	if (row->entry.fd == fd) {
		table_change_begin(t);
		row->entry.fd = sweep_slots(t, &row->entry, false);
		table_change_end(t);
	}
	return false;
}

static void free_row(struct row *row)
{
	pool_free(row, sizeof(*row) + row->HH.keylen + 1);
}

static void free_or_put_off(struct table *t, struct row *row)
{
	if (unlikely(table_index_is_claimed_from(&t->view))) {
		row->next_orphan = t->limbo; /* it is in no list any more */
		t->limbo = row;
		return;
	}
	free_row(row);
	while (unlikely(t->limbo != NULL)) {
		row = t->limbo;
		t->limbo = row->next_orphan;
		free_row(row);
	}
}

void table_remove(struct table *t, struct entry *e)
{
	assert_guarded();
	struct row *row = row_of(e);

	table_index_expect(&t->view, hash_table(t), row->HH.hashv);
	table_change_begin(t);
	table_adopt(t, e);
	if (e->fds > 1)
		sweep_slots(t, e, true);
	clear_slot(t, e->fd);
	HASH_DELETE(HH, t->rows, row);
	table_index_went(&t->view, hash_table(t), &row->HH);
	if (row->family) {
		row->family->live--;
		family_put(t, row->family);
	}
	free_or_put_off(t, row);
	table_change_end(t);
}

int table_move(struct table *t, struct entry *e, int fd)
{
	assert_guarded();
	slot *s = slot_at(t, fd, true);

	if (!s)
		return fd < 0 || fd >> PAGE_SHIFT >= PAGES ? -EBADF : -ENOMEM;
	table_change_begin(t);
	table_hold(e);
	if (e->fds > 1)
		sweep_slots(t, e, true);
	clear_slot(t, e->fd);
	atomic_store_explicit(s, row_of(e), memory_order_release);
	e->fd = fd;
	e->fds = 1;
	table_change_end(t);
	return 0;
}

/* Beside whoever claims. */
static void count_orphan(struct table *t, size_t more)
{
	atomic_fetch_add_explicit(&t->front.orphans, more, memory_order_relaxed);
}

void table_make_loose(struct table *t, struct entry *e)
{
	if (e->flags & ENTRY_ORPHAN)
		return;
	table_change_begin(t);
	e->flags |= ENTRY_ORPHAN | ENTRY_LOOSE;
	table_change_end(t);
	count_orphan(t, 1);
}

bool table_hold(struct entry *e)
{
	return atomic_fetch_and(&e->flags, (uint16_t)~ENTRY_LOOSE) & ENTRY_ORPHAN;
}

void table_make_orphan(struct table *t, struct entry *e)
{
	assert_guarded();
	struct row *row = row_of(e), *after;

	if (e->flags & ENTRY_ORPHAN)
		return;
	if (!row->family) {
		row->family = family_get(t, row->name);
		if (!row->family)
			return; /* without memory it stays findable by its tag, which is what the API asks for */
		row->family->live++;
		if (e->id >= row->family->next_id && e->kind != ENTRY_API)
			row->family->next_id = id_after(e->id);
	}
	table_change_begin(t);
	e->flags |= ENTRY_ORPHAN;
	table_change_end(t);
	count_orphan(t, 1);
	after = row->family->last_orphan;
	if (after &&
	    row->family->first_orphan->entry.id > e->id) /* in order, or all the wrong way round: both are quick */
		after = NULL;
	while (after && after->entry.id > e->id)
		after = after->previous_orphan;
	row->previous_orphan = after;
	row->next_orphan = after ? after->next_orphan : row->family->first_orphan;
	*(after ? &after->next_orphan : &row->family->first_orphan) = row;
	*(row->next_orphan ? &row->next_orphan->previous_orphan : &row->family->last_orphan) = row;
}

static bool is_listed(const struct row *row)
{
	return row->family && (row->previous_orphan || row->family->first_orphan == row);
}

void table_adopt(struct table *t, struct entry *e)
{
	assert_guarded();
	struct row *row = row_of(e);

	if (!table_hold(e))
		return;
	table_change_begin(t);
	e->flags &= (uint16_t)~ENTRY_ORPHAN;
	table_change_end(t);
	count_orphan(t, (size_t)-1);
	if (!is_listed(row)) /* it was loose */
		return;
	*(row->previous_orphan ? &row->previous_orphan->next_orphan : &row->family->first_orphan) = row->next_orphan;
	*(row->next_orphan ? &row->next_orphan->previous_orphan : &row->family->last_orphan) = row->previous_orphan;
	row->previous_orphan = row->next_orphan = NULL;
}

struct entry *table_orphan(const struct table *t, const char *name)
{
	assert_guarded();
	struct family *family = table_orphans(t) ? family_find(t, name) : NULL;

	return family ? entry_of(family->first_orphan) : NULL;
}

struct entry *table_orphan_after(const struct table *t, const struct entry *e)
{
	(void)t;
	return entry_of(row_of(e)->next_orphan);
}

struct entry *table_first(const struct table *t)
{
	assert_guarded();
	return entry_of(t->rows);
}

struct entry *table_after(const struct entry *e)
{
	return entry_of(e->hh.next);
}

size_t table_count(const struct table *t)
{
	return HASH_CNT(HH, t->rows);
}

void table_free(struct table *t)
{
	struct entry *e, *after;

	if (!t)
		return;
	for (e = table_first(t); e; e = after) {
		after = table_after(e);
		table_remove(t, e);
	}
	while (t->limbo) {
		struct row *row = t->limbo;

		t->limbo = row->next_orphan;
		free_row(row);
	}
	for (int page = 0; page < PAGES; page++)
		pool_free(atomic_load_explicit(&t->front.pages[page], memory_order_relaxed), PAGE_SLOTS * sizeof(slot));
	table_index_free(&t->view);
	pool_free(t, sizeof(*t));
}
