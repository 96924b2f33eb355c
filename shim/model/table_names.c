/* SPDX-License-Identifier: MIT */
/* All tags of one name: how its ids go on, and which of them are orphans, in the order of their ids. */
#define _GNU_SOURCE
#include "model/table_inside.h"

#include "base/attr.h"
#include "base/guarded.h"

#include <errno.h>
#include <string.h>

void table_change_begin(struct table *t)
{
	table_index_begin(&t->view);
}

void table_change_end(struct table *t)
{
	table_index_end(&t->view, hash_table(t));
}

struct family *table_family_find(const struct table *t, const char *name)
{
	struct family *family;

	HASH_FIND(hh, t->families, name, strlen(name), family);
	return family;
}

struct family *table_family_get(struct table *t, const char *name)
{
	struct family *family = table_family_find(t, name);
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

void table_family_put(struct table *t, struct family *family)
{
	if (family->live)
		return;
	HASH_DELETE(hh, t->families, family);
	pool_free(family, sizeof(*family) + family->len + 1);
}

/* Beside a thread that claims. */
static void count_orphan(struct table *t, size_t more)
{
	atomic_fetch_add_explicit(&t->front.orphans, more, memory_order_relaxed);
}

bool table_hold(struct entry *e)
{
	return atomic_fetch_and(&e->flags, (uint16_t)~ENTRY_LOOSE) & ENTRY_ORPHAN;
}

static bool is_listed(const struct row *row)
{
	return row->family && (row->previous_orphan || row->family->first_orphan == row);
}

void table_adopt_row(struct table *t, struct row *row)
{
	struct entry *e = &row->entry;

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

void table_make_loose(struct table *t, struct entry *e)
{
	if (e->flags & ENTRY_ORPHAN)
		return;
	table_change_begin(t);
	e->flags |= row_at(t, e->fd)->beside ? ENTRY_ORPHAN : ENTRY_ORPHAN | ENTRY_LOOSE;
	table_change_end(t);
	count_orphan(t, 1);
}

void table_make_orphan(struct table *t, struct entry *e)
{
	assert_guarded();
	struct row *row = row_of(e), *after;

	if (e->flags & ENTRY_ORPHAN)
		return;
	if (!row->family) {
		row->family = table_family_get(t, row->name);
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

void table_adopt(struct table *t, struct entry *e)
{
	assert_guarded();
	for (struct row *row = row_at(t, e->fd); row; row = row->beside) {
		table_adopt_row(t, row);
		if (&row->entry != e)
			row->entry.flags &= (uint16_t)~ENTRY_INHERITED;
	}
}

struct entry *table_orphan(const struct table *t, const char *name)
{
	assert_guarded();
	struct family *family = table_orphans(t) ? table_family_find(t, name) : NULL;

	return family ? entry_of(family->first_orphan) : NULL;
}

struct entry *table_orphan_after(const struct table *t, const struct entry *e)
{
	(void)t;
	return entry_of(row_of(e)->next_orphan);
}
