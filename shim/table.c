/* SPDX-License-Identifier: MIT */
/* The table. Two hashes (tags; names, for counting ids and finding orphans) and a two-level array by descriptor. */
#define _GNU_SOURCE
#include "table.h"

#include "attr.h"
#include "pool.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

struct key {
	const char *name;
	uint32_t len;
	int32_t id;
};

static inline unsigned hash_of(const struct key *key)
{
	return (unsigned)XXH3_64bits_withSeed(key->name, key->len, (uint64_t)(uint32_t)key->id * 0x9e3779b97f4a7c15u);
}

static inline int key_differs(const struct key *a, const struct key *b)
{
	return a->id != b->id || a->len != b->len || memcmp(a->name, b->name, a->len);
}

/* uthash's own answers would exit a stranger's process and call its malloc. */
#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(elt) ((elt)->out_of_memory = true)
#define uthash_malloc(size) pool_alloc(size)
#define uthash_free(memory, size) pool_free(memory, size)
#define HASH_FUNCTION(at, len, hashv) ((void)(len), (hashv) = hash_of((const struct key *)(at)))
#define HASH_KEYCMP(a, b, len) ((void)(len), key_differs((const struct key *)(a), (const struct key *)(b)))
#include <uthash.h>

enum {
	PAGE_SHIFT = 10,
	PAGE_SLOTS = 1 << PAGE_SHIFT,
	PAGES = 1 << 14, /* 16 million descriptors: 16 times the kernel's default ceiling */
};

struct family { /* all tags of one name */
	struct key key; /* id 0 */
	int next_id;
	int live;
	struct row *first_orphan, *last_orphan;
	bool out_of_memory;
	UT_hash_handle hh;
	char name[];
};

struct row {
	struct entry entry; /* first: an entry is its row */
	struct key key;
	struct family *family; /* NULL: the id was the caller's own */
	struct row *next_orphan, *previous_orphan;
	bool out_of_memory;
	UT_hash_handle hh;
	char name[];
};

typedef _Atomic(struct row *) slot;

struct table {
	struct row *rows;
	struct family *families;
	size_t orphans;
	_Atomic(slot *) pages[PAGES];
};

struct table *table_new(void)
{
	return pool_alloc(sizeof(struct table));
}

/* The slot of a number, making its page if asked to; NULL when there is none. */
static slot *slot_at(const struct table *t, int fd, bool make)
{
	struct table *writable = (struct table *)t;
	slot *page;

	if (unlikely(fd < 0 || fd >> PAGE_SHIFT >= PAGES))
		return NULL;
	page = atomic_load_explicit(&writable->pages[fd >> PAGE_SHIFT], memory_order_acquire);
	if (!page && make) {
		page = pool_alloc(PAGE_SLOTS * sizeof(slot));
		atomic_store_explicit(&writable->pages[fd >> PAGE_SHIFT], page, memory_order_release);
	}
	return page ? &page[fd & (PAGE_SLOTS - 1)] : NULL;
}

static struct row *row_at(const struct table *t, int fd)
{
	slot *s = slot_at(t, fd, false);

	return s ? atomic_load_explicit(s, memory_order_relaxed) : NULL;
}

bool table_tracks(const struct table *t, int fd)
{
	return row_at(t, fd) != NULL;
}

struct entry *table_by_fd(const struct table *t, int fd)
{
	return (struct entry *)row_at(t, fd);
}

static struct key key_for(const char *name, int id)
{
	return (struct key){.name = name, .len = (uint32_t)strlen(name), .id = id};
}

static struct family *family_find(const struct table *t, const char *name)
{
	struct key key = key_for(name, 0);
	struct family *family;

	HASH_FIND(hh, t->families, &key, sizeof(key), family);
	return family;
}

static struct family *family_get(struct table *t, const char *name)
{
	struct family *family = family_find(t, name);
	size_t len = strlen(name);

	if (family)
		return family;
	family = pool_alloc(sizeof(*family) + len + 1);
	if (!family)
		return NULL;
	memcpy(family->name, name, len + 1);
	family->key = key_for(family->name, 0);
	HASH_ADD(hh, t->families, key, sizeof(family->key), family);
	if (family->out_of_memory) {
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
	pool_free(family, sizeof(*family) + family->key.len + 1);
}

static int add_row(struct table *t, const char *name, int id, int fd, struct family *family, struct row **made)
{
	struct key key = key_for(name, id);
	slot *s = slot_at(t, fd, true);
	struct row *row;

	if (!s)
		return fd < 0 || fd >> PAGE_SHIFT >= PAGES ? -EBADF : -ENOMEM;
	if (atomic_load_explicit(s, memory_order_relaxed))
		return -EEXIST;
	row = pool_alloc(sizeof(*row) + key.len + 1);
	if (!row)
		return -ENOMEM;
	memcpy(row->name, name, key.len + 1);
	key.name = row->name;
	row->key = key;
	row->family = family;
	row->entry = (struct entry){.name = row->name, .id = id, .fd = fd, .fds = 1, .backlog = -1, .queue = -1};
	HASH_ADD(hh, t->rows, key, sizeof(row->key), row);
	if (row->out_of_memory) {
		pool_free(row, sizeof(*row) + key.len + 1);
		return -ENOMEM;
	}
	atomic_store_explicit(s, row, memory_order_release);
	*made = row;
	return 0;
}

int table_add(struct table *t, const char *name, int id, int fd, struct entry **made)
{
	size_t len = strnlen(name, TAG_NAME_MAX + 1);
	struct row *row;
	int r;

	if (!len || len > TAG_NAME_MAX)
		return -EINVAL;
	if (table_find(t, name, id))
		return -EEXIST;
	r = add_row(t, name, id, fd, NULL, &row);
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
	struct family *family;
	struct row *row;
	int r;

	if (!*name || strnlen(name, TAG_NAME_MAX + 1) > TAG_NAME_MAX)
		return -EINVAL;
	family = family_get(t, name);
	if (!family)
		return -ENOMEM;
	while (table_find(t, name, family->next_id)) /* the API, or another generation, had that one */
		family->next_id = id_after(family->next_id);
	r = add_row(t, name, family->next_id, fd, family, &row);
	if (r) {
		family_put(t, family);
		return r;
	}
	family->next_id = id_after(family->next_id);
	family->live++;
	if (made)
		*made = &row->entry;
	return 0;
}

struct entry *table_find(const struct table *t, const char *name, int id)
{
	struct key key = key_for(name, id);
	struct row *row;

	HASH_FIND(hh, t->rows, &key, sizeof(key), row);
	return (struct entry *)row;
}

int table_alias(struct table *t, struct entry *e, int fd)
{
	slot *s = slot_at(t, fd, true);

	if (!s)
		return fd < 0 || fd >> PAGE_SHIFT >= PAGES ? -EBADF : -ENOMEM;
	if (atomic_load_explicit(s, memory_order_relaxed))
		return -EEXIST;
	atomic_store_explicit(s, (struct row *)e, memory_order_release);
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
	struct row *row = row_at(t, fd);

	if (!row)
		return false;
	if (row->entry.fds == 1) {
		table_remove(t, &row->entry);
		return true;
	}
	clear_slot(t, fd);
	row->entry.fds--;
	if (row->entry.fd == fd)
		row->entry.fd = sweep_slots(t, &row->entry, false);
	return false;
}

void table_remove(struct table *t, struct entry *e)
{
	struct row *row = (struct row *)e;

	table_adopt(t, e);
	if (e->fds > 1)
		sweep_slots(t, e, true);
	clear_slot(t, e->fd);
	HASH_DELETE(hh, t->rows, row);
	if (row->family) {
		row->family->live--;
		family_put(t, row->family);
	}
	pool_free(row, sizeof(*row) + row->key.len + 1);
}

int table_move(struct table *t, struct entry *e, int fd)
{
	slot *s = slot_at(t, fd, true);

	if (!s)
		return fd < 0 || fd >> PAGE_SHIFT >= PAGES ? -EBADF : -ENOMEM;
	if (e->fds > 1)
		sweep_slots(t, e, true);
	clear_slot(t, e->fd);
	atomic_store_explicit(s, (struct row *)e, memory_order_release);
	e->fd = fd;
	e->fds = 1;
	return 0;
}

void table_make_orphan(struct table *t, struct entry *e)
{
	struct row *row = (struct row *)e, *after;

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
	e->flags |= ENTRY_ORPHAN;
	t->orphans++;
	after = row->family->last_orphan;
	if (after && row->family->first_orphan->entry.id > e->id) /* in order, or all the wrong way round: both are quick */
		after = NULL;
	while (after && after->entry.id > e->id)
		after = after->previous_orphan;
	row->previous_orphan = after;
	row->next_orphan = after ? after->next_orphan : row->family->first_orphan;
	*(after ? &after->next_orphan : &row->family->first_orphan) = row;
	*(row->next_orphan ? &row->next_orphan->previous_orphan : &row->family->last_orphan) = row;
}

void table_adopt(struct table *t, struct entry *e)
{
	struct row *row = (struct row *)e;

	if (!(e->flags & ENTRY_ORPHAN))
		return;
	e->flags &= ~(unsigned)ENTRY_ORPHAN;
	t->orphans--;
	*(row->previous_orphan ? &row->previous_orphan->next_orphan : &row->family->first_orphan) = row->next_orphan;
	*(row->next_orphan ? &row->next_orphan->previous_orphan : &row->family->last_orphan) = row->previous_orphan;
	row->previous_orphan = row->next_orphan = NULL;
}

struct entry *table_orphan(const struct table *t, const char *name)
{
	struct family *family = t->orphans ? family_find(t, name) : NULL;

	return family ? (struct entry *)family->first_orphan : NULL;
}

struct entry *table_orphan_after(const struct table *t, const struct entry *e)
{
	(void)t;
	return (struct entry *)((const struct row *)e)->next_orphan;
}

struct entry *table_first(const struct table *t)
{
	return (struct entry *)t->rows;
}

struct entry *table_after(const struct entry *e)
{
	return ((const struct row *)e)->hh.next;
}

size_t table_count(const struct table *t)
{
	return HASH_COUNT(t->rows);
}

size_t table_orphans(const struct table *t)
{
	return t->orphans;
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
	for (int page = 0; page < PAGES; page++)
		pool_free(atomic_load_explicit(&t->pages[page], memory_order_relaxed), PAGE_SLOTS * sizeof(slot));
	pool_free(t, sizeof(*t));
}
