/* SPDX-License-Identifier: MIT */
/* The fixture of the unit tests of tables: one table, new in each test, and entries that must go in. */
#ifndef CPR_TEST_ONE_TABLE_H
#define CPR_TEST_ONE_TABLE_H

#include "model/table.h"

#include <criterion/criterion.h>

static struct table *t;

/* The .init of a suite. */
static void enter(void)
{
	t = table_new();
	cr_assert_not_null(t);
}

static inline struct entry *add(const char *name, int id, int fd)
{
	struct entry *e = NULL;

	cr_assert_eq(table_add(t, name, id, fd, &e), 0, "%s/%d at %d", name, id, fd);
	return e;
}

static inline struct entry *add_next(const char *name, int fd)
{
	struct entry *e = NULL;

	cr_assert_eq(table_add_next(t, name, fd, &e), 0, "%s at %d", name, fd);
	return e;
}

#endif
