/* SPDX-License-Identifier: MIT */
/* The orphans of a table: in the order of their ids, and gone with their descriptors. */
#include "model/table.h"

#include "../support/entries.h"
#include "../support/one_table.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>

TestSuite(orphans, .init = enter);

static struct entry *orphan(const char *name, int id, int fd)
{
	struct entry *e = add(name, id, fd);

	table_make_orphan(t, e);
	return e;
}

static void orphans_are(const char *name, int n, const int *ids)
{
	struct entry *e = table_orphan(t, name);

	for (int i = 0; i < n; i++, e = table_orphan_after(t, e)) {
		cr_assert_not_null(e);
		cr_assert_eq(e->id, ids[i], "%d where %d should be", e->id, ids[i]);
		cr_assert(e->flags & ENTRY_ORPHAN);
	}
	cr_assert_null(e);
}

Test(orphans, gives_orphans_in_the_order_of_their_ids)
{
	static const int arrival[] = {3, 0, 7, 1, 9, 2}, expected[] = {0, 1, 2, 3, 7, 9};

	for (int i = 0; i < 6; i++)
		orphan("a", arrival[i], 10 + i);
	orphan("b", 0, 30);
	add("a", 5, 31); /* not an orphan */
	orphans_are("a", 6, expected);
	cr_assert_eq(table_orphans(t), 7);
}

Test(orphans, takes_an_adopted_orphan_out_wherever_it_stands)
{
	struct entry *e[5];

	for (int i = 0; i < 5; i++)
		e[i] = orphan("a", i, 10 + i);
	table_adopt(t, e[2]);
	orphans_are("a", 4, (const int[]){0, 1, 3, 4});
	table_adopt(t, e[0]);
	table_adopt(t, e[4]);
	orphans_are("a", 2, (const int[]){1, 3});
	table_adopt(t, e[0]); /* twice is once */
	table_make_orphan(t, e[1]);
	cr_assert_eq(table_orphans(t), 2);
	table_make_orphan(t, e[4]);
	table_make_orphan(t, e[0]);
	orphans_are("a", 4, (const int[]){0, 1, 3, 4});
	cr_assert_not(e[2]->flags & ENTRY_ORPHAN);
	cr_assert_eq(table_find(t, "a", 2), e[2]);
}

Test(orphans, forgets_orphans_with_their_descriptors)
{
	orphan("a", 0, 10);
	orphan("a", 1, 11);
	orphan("a", 2, 12);
	cr_assert(table_forget_fd(t, 11));
	orphans_are("a", 2, (const int[]){0, 2});
	cr_assert(table_forget_fd(t, 10));
	cr_assert(table_forget_fd(t, 12));
	orphans_are("a", 0, NULL);
	cr_assert_eq(table_orphans(t), 0);
}

Test(orphans, counts_new_ids_behind_those_of_the_orphans)
{
	orphan("a", 0, 10);
	orphan("a", 4, 14);
	cr_assert_eq(add_next("a", 20)->id, 5);
}

Test(orphans, counts_on_from_the_largest_id_that_there_can_be)
{
	struct entry *e;

	orphan("a", INT_MAX - 1, 10);
	e = add_next("a", 11);
	cr_assert_eq(table_find(t, "a", e->id), e);
	e = add_next("a", 12);
	cr_assert_eq(table_find(t, "a", e->id), e);
	cr_assert_geq(e->id, 0);
}

Test(orphans, orders_a_hundred_thousand_orphans_that_come_backwards)
{
	enum { MANY = 100000 };
	double before = processor_seconds();
	int id = 0;

	for (int i = MANY - 1; i >= 0; i--)
		orphan("a", i, i);
	for (struct entry *e = table_orphan(t, "a"); e; e = table_orphan_after(t, e))
		cr_assert_eq(e->id, id++);
	cr_assert_eq(id, MANY);
	cr_assert_lt(processor_seconds() - before, 2.0, "it took %.1f s", processor_seconds() - before);
}
