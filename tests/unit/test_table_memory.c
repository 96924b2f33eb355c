/* SPDX-License-Identifier: MIT */
/* table: without memory it says so, and loses nothing of what it had. */
#include "model/table.h"

#include "../support/entries.h"
#include "../support/files.h"
#include "base/pool.h"

#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>

static void no_more_memory_than(long kib)
{
	struct rlimit limit;

	limit.rlim_cur = limit.rlim_max = (rlim_t)(mapped_kib() + kib) * 1024;
	cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
}

/* So that what is asked for next has to come from the kernel. */
static void use_up_the_pool(void)
{
	while (pool_alloc(32))
		;
}

Test(table_memory, says_enomem_and_keeps_what_it_had, NOT_UNDER_ASAN)
{
	struct table *t = table_new();
	struct entry *e = NULL;
	int r = 0, fd = 0;
	size_t had;

	no_more_memory_than(8 * 1024);
	while (!r && fd < 10000000)
		r = table_add_next(t, fd % 2 ? "odd" : "even", fd, &e), fd += !r;
	cr_assert_eq(r, -ENOMEM);
	had = table_count(t);
	cr_assert_eq(had, (size_t)fd);
	cr_assert_gt(had, 1000);
	use_up_the_pool();
	cr_assert_eq(table_add(t, "another", 0, fd, NULL), -ENOMEM);
	cr_assert_eq(table_add_next(t, "another", fd, NULL), -ENOMEM);
	cr_assert_eq(table_count(t), had);
	for (int i = 0; i < fd; i++) {
		cr_assert_not_null(table_by_fd(t, i));
		cr_assert_eq(table_find(t, i % 2 ? "odd" : "even", i / 2), table_by_fd(t, i));
	}
	for (int i = 0; i < fd; i++)
		cr_assert(table_forget_fd(t, i));
	r = table_add_next(t, "odd", 1, &e);
	cr_assert_eq(r, 0, "the memory came back, but: %d", r);
	cr_assert_eq(e->id, 0);
}

Test(table_memory, says_enomem_for_a_far_number_and_changes_nothing, NOT_UNDER_ASAN)
{
	struct table *t = table_new();
	struct entry *e;

	cr_assert_eq(table_add(t, "a", 0, 5, &e), 0);
	no_more_memory_than(0);
	for (int shift = 5; shift <= 14; shift++) /* every free list */
		while (pool_alloc((size_t)1 << shift))
			;
	cr_assert_eq(table_alias(t, e, 1 << 20), -ENOMEM);
	cr_assert_eq(table_move(t, e, 1 << 20), -ENOMEM);
	cr_assert(e->fd == 5 && e->fds == 1 && table_by_fd(t, 5) == e);
	cr_assert_not(table_tracks(t, 1 << 20));
	cr_assert_null(table_new());
}

Test(table_memory, gives_back_all_that_it_took)
{
	long before = 0;

	for (int round = 0; round < 30; round++) {
		struct table *t = table_new();

		for (int fd = 0; fd < 5000; fd++) {
			char name[40];
			struct entry *e;

			snprintf(name, sizeof(name), "udp:0.0.0.0:%d", fd / 2);
			cr_assert_eq(table_add_next(t, name, fd, &e), 0);
			if (fd % 3)
				table_make_orphan(t, e);
			else
				cr_assert_eq(table_alias(t, e, fd + 10000), 0);
		}
		table_free(t);
		if (round == 3)
			before = mapped_kib();
	}
	cr_assert_eq(mapped_kib(), before);
}
