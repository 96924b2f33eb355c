/* SPDX-License-Identifier: MIT */
/* The table. Two hashes (tags; names, for counting ids and finding orphans) and a two-level array by descriptor. */
#define _GNU_SOURCE
#include "model/table_inside.h"

#include "base/attr.h"
#include "base/guarded.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

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

struct entry *table_by_fd(const struct table *t, int fd)
{
	return entry_of(row_at(t, fd));
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

/* Without a look whether the tag stands already, and into no index by number. */
static int make_row(struct table *t, const char *name, size_t len, int id, int fd, unsigned hashv, struct row **made)
{
	unsigned threshold = threshold_of(hash_table(t));
	struct row *row;

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
	*made = row;
	return 0;
}

static int add_row(struct table *t, const char *name, size_t len, int id, int fd, unsigned hashv, struct row **made)
{
	slot *s = slot_at(t, fd, true);
	int r;

	if (!s)
		return fd < 0 || fd >> PAGE_SHIFT >= PAGES ? -EBADF : -ENOMEM;
	if (atomic_load_explicit(s, memory_order_relaxed))
		return -EEXIST;
	r = make_row(t, name, len, id, fd, hashv, made);
	if (!r)
		atomic_store_explicit(s, *made, memory_order_release);
	return r;
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

int table_add_beside(struct table *t, const char *name, int id, struct entry *beside, struct entry **made)
{
	assert_guarded();
	size_t len = strnlen(name, TAG_NAME_MAX + 1);
	struct row *first = row_at(t, beside->fd), *row;
	int r;

	if (!len || len > TAG_NAME_MAX)
		return -EINVAL;
	if (table_find(t, name, id))
		return -EEXIST;
	r = make_row(t, name, len, id, beside->fd, hash_of(name, len, id), &row);
	if (r)
		return r;
	table_hold(beside); /* to claim one is to claim all of them: not without the lock */
	row->entry.fds = beside->fds;
	row->beside = first->beside;
	first->beside = row;
	*made = &row->entry;
	return 0;
}

int table_add_also(struct table *t, const char *name, int id, int fd, struct entry **made)
{
	struct entry *beside = table_by_fd(t, fd);

	return beside ? table_add_beside(t, name, id, beside, made) : table_add(t, name, id, fd, made);
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
	family = table_family_get(t, name);
	if (!family)
		return -ENOMEM;
	while (table_find(t, name, family->next_id)) /* the API, or another generation, had that one */
		family->next_id = id_after(family->next_id);
	r = add_row(t, name, len, family->next_id, fd, hash_of(name, len, family->next_id), &row);
	if (r) {
		table_family_put(t, family);
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
	atomic_store_explicit(s, row_at(t, e->fd), memory_order_release);
	for (struct row *row = row_at(t, e->fd); row; row = row->beside)
		row->entry.fds++;
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

/* The lowest number of a row. Walks the whole index: only for what was duplicated. */
static int lowest_number(const struct table *t, const struct row *row)
{
	int fd = table_next_fd(t, 0);

	while (fd >= 0 && row_at(t, fd) != row)
		fd = table_next_fd(t, fd + 1);
	return fd;
}

static void set_slot(struct table *t, int fd, struct row *row)
{
	slot *s = slot_at(t, fd, false);

	if (s)
		atomic_store_explicit(s, row, memory_order_release);
}

/* What led to `from` leads to `to` from here on. */
static void lead_to(struct table *t, const struct row *from, struct row *to)
{
	if (from->entry.fds == 1) {
		set_slot(t, from->entry.fd, to);
		return;
	}
	for (int fd = table_next_fd(t, 0); fd >= 0; fd = table_next_fd(t, fd + 1))
		if (row_at(t, fd) == from)
			set_slot(t, fd, to);
}

bool table_forget_fd(struct table *t, int fd)
{
	assert_guarded();
	struct row *row = row_at(t, fd);
	int next;

	if (!row)
		return false;
	if (row->entry.fds == 1) {
		for (; row; row = row_at(t, fd))
			table_remove(t, &row->entry);
		return true;
	}
	set_slot(t, fd, NULL);
	next = row->entry.fd == fd ? lowest_number(t, row) : row->entry.fd;
	table_change_begin(t);
	for (; row; row = row->beside) {
		row->entry.fds--;
		row->entry.fd = next;
	}
	table_change_end(t);
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

static void leave_index(struct table *t, struct row *row)
{
	struct row *before = row_at(t, row->entry.fd);

	if (before == row) {
		lead_to(t, row, row->beside);
		return;
	}
	while (before->beside != row)
		before = before->beside;
	before->beside = row->beside;
}

void table_remove(struct table *t, struct entry *e)
{
	assert_guarded();
	struct row *row = row_of(e);

	table_index_expect(&t->view, hash_table(t), row->HH.hashv);
	table_change_begin(t);
	table_adopt_row(t, row);
	leave_index(t, row);
	HASH_DELETE(HH, t->rows, row);
	table_index_went(&t->view, hash_table(t), &row->HH);
	if (row->family) {
		row->family->live--;
		table_family_put(t, row->family);
	}
	free_or_put_off(t, row);
	table_change_end(t);
}

int table_move(struct table *t, struct entry *e, int fd)
{
	assert_guarded();
	slot *s = slot_at(t, fd, true);
	struct row *row;

	if (!s)
		return fd < 0 || fd >> PAGE_SHIFT >= PAGES ? -EBADF : -ENOMEM;
	if (row_at(t, fd) && row_at(t, fd) != row_at(t, e->fd)) /* closed behind our back, and not noticed yet */
		table_forget_fd(t, fd);
	table_change_begin(t);
	row = row_at(t, e->fd);
	table_hold(e);
	lead_to(t, row, NULL);
	atomic_store_explicit(s, row, memory_order_release);
	for (; row; row = row->beside) {
		row->entry.fd = fd;
		row->entry.fds = 1;
	}
	table_change_end(t);
	return 0;
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
