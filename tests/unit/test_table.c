/* SPDX-License-Identifier: MIT */
/* table: one descriptor per tag and one tag per descriptor, whatever is added, moved, duplicated and forgotten. */
#include "model/table.h"

#include "../support/entries.h"
#include "../support/one_table.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>

TestSuite(table, .init = enter);

Test(table, is_empty_when_new)
{
	cr_assert_eq(table_count(t), 0);
	cr_assert_eq(table_orphans(t), 0);
	cr_assert_null(table_first(t));
	cr_assert_null(table_find(t, "a", 0));
	cr_assert_null(table_orphan(t, "a"));
	cr_assert_eq(table_next_fd(t, 0), -1);
	cr_assert_not(table_tracks(t, 0));
	cr_assert_not(table_forget_fd(t, 0));
	table_free(t);
	table_free(NULL);
}

Test(table, finds_an_entry_by_its_tag_and_by_its_descriptor)
{
	char name[] = "tcp:0.0.0.0:80";
	struct entry *e = add(name, 3, 7);

	cr_assert_eq(table_find(t, name, 3), e);
	cr_assert_eq(table_by_fd(t, 7), e);
	cr_assert(table_tracks(t, 7));
	cr_assert_null(table_find(t, name, 2));
	cr_assert_null(table_find(t, "tcp:0.0.0.0:8", 3));
	cr_assert_null(table_by_fd(t, 3));
	cr_assert(e->id == 3 && e->fd == 7 && e->fds == 1 && e->backlog == -1 && e->queue == -1 && e->flags == 0);
	name[0] = 'x'; /* the name was copied */
	cr_assert_eq(table_find(t, "tcp:0.0.0.0:80", 3), e);
	cr_assert_str_eq(e->name, "tcp:0.0.0.0:80");
}

Test(table, takes_any_int_as_id)
{
	static const int ids[] = {0, 1, -1, INT_MIN, INT_MAX};

	for (int i = 0; i < 5; i++)
		add("a", ids[i], 10 + i);
	for (int i = 0; i < 5; i++)
		cr_assert_eq(table_find(t, "a", ids[i])->fd, 10 + i);
}

Test(table, says_eexist_for_a_tag_or_a_descriptor_that_stands)
{
	struct entry *e = add("a", 0, 7), *made = NULL;

	cr_assert_eq(table_add(t, "a", 0, 8, &made), -EEXIST);
	cr_assert_eq(table_add(t, "a", 0, 7, &made), -EEXIST);
	cr_assert_eq(table_add(t, "b", 0, 7, &made), -EEXIST);
	cr_assert_eq(table_add_next(t, "b", 7, &made), -EEXIST);
	cr_assert_null(made);
	cr_assert_eq(table_count(t), 1);
	cr_assert_eq(table_find(t, "a", 0), e);
	cr_assert_null(table_find(t, "b", 0));
	cr_assert_not(table_tracks(t, 8));
	cr_assert_eq(add_next("b", 8)->id, 0, "what was refused counted as the first of its name");
}

Test(table, takes_names_of_4095_bytes_and_refuses_4096_and_none)
{
	char *longest = long_name("unix:/", TAG_NAME_MAX), *longer = long_name("unix:/", TAG_NAME_MAX + 1);

	cr_assert_eq(add(longest, 0, 5)->fd, 5);
	cr_assert_eq(add_next(longest, 6)->id, 1);
	cr_assert_eq(table_add(t, longer, 0, 7, NULL), -EINVAL);
	cr_assert_eq(table_add_next(t, longer, 7, NULL), -EINVAL);
	cr_assert_eq(table_add(t, "", 0, 7, NULL), -EINVAL);
	cr_assert_eq(table_add_next(t, "", 7, NULL), -EINVAL);
	cr_assert_eq(table_count(t), 2);
	cr_assert_eq(strlen(table_find(t, longest, 1)->name), TAG_NAME_MAX);
	cr_assert_null(table_find(t, longer, 0));
}

Test(table, refuses_descriptors_that_cannot_be)
{
	static const int wrong[] = {-1, INT_MIN, INT_MAX, 1 << 24};
	struct entry *e = add("a", 0, 7);

	for (int i = 0; i < 4; i++) {
		cr_assert_eq(table_add(t, "b", 0, wrong[i], NULL), -EBADF);
		cr_assert_eq(table_add_next(t, "b", wrong[i], NULL), -EBADF);
		cr_assert_eq(table_alias(t, e, wrong[i]), -EBADF);
		cr_assert_eq(table_move(t, e, wrong[i]), -EBADF);
		cr_assert_not(table_tracks(t, wrong[i]));
		cr_assert_null(table_by_fd(t, wrong[i]));
		cr_assert_not(table_forget_fd(t, wrong[i]));
	}
	cr_assert(e->fd == 7 && e->fds == 1 && table_count(t) == 1);
	cr_assert_eq(table_next_fd(t, -1), -1);
	cr_assert_eq(table_next_fd(t, INT_MAX), -1);
	cr_assert_eq(add("b", 0, (1 << 24) - 1)->fd, (1 << 24) - 1);
	cr_assert_eq(table_next_fd(t, 8), (1 << 24) - 1);
}

/* ---- ids ---- */

Test(table, counts_the_ids_of_a_name_from_0)
{
	for (int i = 0; i < 4; i++)
		cr_assert_eq(add_next("tcp:0.0.0.0:80", 10 + i)->id, i);
	cr_assert_eq(add_next("tcp:0.0.0.0:81", 20)->id, 0);
	for (int i = 0; i < 4; i++)
		cr_assert_eq(table_find(t, "tcp:0.0.0.0:80", i)->fd, 10 + i);
}

Test(table, does_not_reuse_an_id_while_one_of_the_name_is_left)
{
	for (int i = 0; i < 3; i++)
		add_next("a", 10 + i);
	cr_assert(table_forget_fd(t, 10));
	cr_assert(table_forget_fd(t, 12));
	cr_assert_eq(add_next("a", 10)->id, 3);
}

Test(table, counts_from_0_again_when_none_of_the_name_is_left)
{
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 3; i++)
			cr_assert_eq(add_next("a", 10 + i)->id, i);
		for (int i = 0; i < 3; i++)
			cr_assert(table_forget_fd(t, 10 + i));
	}
}

Test(table, passes_over_ids_that_a_caller_chose)
{
	add("a", 0, 10);
	add("a", 2, 12);
	cr_assert_eq(add_next("a", 11)->id, 1);
	cr_assert_eq(add_next("a", 13)->id, 3);
}

/* ---- aliases ---- */

Test(table, keeps_an_entry_until_its_last_descriptor_is_forgotten)
{
	struct entry *e = add_next("a", 5);

	cr_assert_eq(table_alias(t, e, 3), 0);
	cr_assert_eq(table_alias(t, e, 2000), 0);
	cr_assert_eq(e->fds, 3);
	cr_assert_eq(table_by_fd(t, 2000), e);
	cr_assert_not(table_forget_fd(t, 5));
	cr_assert_eq(e->fd, 3);
	cr_assert_not(table_tracks(t, 5));
	cr_assert_not(table_forget_fd(t, 3));
	cr_assert_eq(e->fd, 2000);
	cr_assert_eq(table_find(t, "a", 0), e);
	cr_assert(table_forget_fd(t, 2000));
	cr_assert_null(table_find(t, "a", 0));
	cr_assert_eq(table_next_fd(t, 0), -1);
}

Test(table, refuses_an_alias_at_a_number_that_stands)
{
	struct entry *a = add("a", 0, 5), *b = add("b", 0, 6);

	cr_assert_eq(table_alias(t, a, 6), -EEXIST);
	cr_assert_eq(table_alias(t, a, 5), -EEXIST);
	cr_assert_eq(a->fds, 1);
	cr_assert_eq(table_by_fd(t, 6), b);
}

Test(table, removes_an_entry_with_all_its_descriptors)
{
	struct entry *a = add("a", 0, 5), *b = add("b", 0, 6);

	table_alias(t, a, 7);
	table_alias(t, b, 8);
	table_alias(t, a, 5000);
	table_remove(t, a);
	cr_assert_eq(table_count(t), 1);
	cr_assert(!table_tracks(t, 5) && !table_tracks(t, 7) && !table_tracks(t, 5000));
	cr_assert(table_by_fd(t, 6) == b && table_by_fd(t, 8) == b && b->fds == 2);
}

/* ---- several tags of one descriptor ---- */

static struct entry *add_beside(const char *name, int id, struct entry *beside)
{
	struct entry *made = NULL;

	cr_assert_eq(table_add_beside(t, name, id, beside, &made), 0);
	return made;
}

Test(table, finds_a_descriptor_by_each_of_its_tags)
{
	struct entry *a = add("a", 0, 5), *b = add_beside("b", 3, a), *c = add_beside("c", 0, b), *none = NULL;

	cr_assert(b->fd == 5 && c->fd == 5);
	cr_assert(table_find(t, "a", 0) == a && table_find(t, "b", 3) == b && table_find(t, "c", 0) == c);
	cr_assert_eq(table_peek(t, "b", 1, 3), 5);
	cr_assert_eq(table_add_beside(t, "b", 3, a, &none), -EEXIST);
	cr_assert_eq(table_add_beside(t, "", 0, a, &none), -EINVAL);
	cr_assert_eq(table_count(t), 3);
	cr_assert_null(none);
}

Test(table, removes_one_of_several_tags_in_any_order)
{
	for (int first = 0; first < 3; first++)
		for (int second = 1; second < 3; second++) {
			struct entry *a = add("a", 0, 5), *all[] = {a, add_beside("b", 0, a), add_beside("c", 0, a)};
			struct entry *last = all[3 - first - (first + second) % 3];

			table_remove(t, all[first]);
			table_remove(t, all[(first + second) % 3]);
			cr_assert_eq(table_by_fd(t, 5), last);
			cr_assert_eq(table_find(t, last->name, 0), last);
			table_remove(t, last);
			cr_assert(!table_count(t) && !table_tracks(t, 5));
		}
}

Test(table, forgets_all_tags_with_the_last_number)
{
	struct entry *a = add("a", 0, 5), *b = add_beside("b", 0, a);

	cr_assert_eq(table_alias(t, b, 9), 0);
	cr_assert(a->fds == 2 && b->fds == 2);
	table_remove(t, table_by_fd(t, 9));
	cr_assert(table_by_fd(t, 5) && table_by_fd(t, 5) == table_by_fd(t, 9));
	a = table_by_fd(t, 5);
	b = add_beside("c", 0, a);
	cr_assert_not(table_forget_fd(t, 5));
	cr_assert(a->fd == 9 && b->fd == 9 && a->fds == 1 && b->fds == 1);
	cr_assert(table_forget_fd(t, 9));
	cr_assert_eq(table_count(t), 0);
}

Test(table, moves_and_adopts_all_tags_of_a_descriptor)
{
	struct entry *a = add("a", 0, 5), *b;

	table_make_loose(t, a);
	b = add_beside("b", 0, a);
	table_make_loose(t, b);
	cr_assert_eq(table_claim(t, "a", 1, 0), -EAGAIN, "one of several was claimed without the others");
	cr_assert_eq(table_claim(t, "b", 1, 0), -EAGAIN);
	cr_assert_eq(table_move(t, b, 8), 0);
	cr_assert(a->fd == 8 && b->fd == 8 && !table_tracks(t, 5));
	cr_assert_eq(table_orphans(t), 2);
	table_adopt(t, b);
	cr_assert_eq(table_orphans(t), 0);
	cr_assert(table_peek(t, "a", 1, 0) == 8 && table_peek(t, "b", 1, 0) == 8);
}

/* ---- moving ---- */

Test(table, moves_an_entry_to_one_number_and_only_there)
{
	struct entry *e = add("a", 0, 5);

	table_alias(t, e, 6);
	cr_assert_eq(table_move(t, e, 3000), 0);
	cr_assert(e->fd == 3000 && e->fds == 1);
	cr_assert(!table_tracks(t, 5) && !table_tracks(t, 6) && table_by_fd(t, 3000) == e);
	cr_assert_eq(table_find(t, "a", 0), e);
	cr_assert(table_forget_fd(t, 3000));
}

Test(table, moves_an_entry_to_its_own_number_or_alias)
{
	struct entry *e = add("a", 0, 5);

	cr_assert_eq(table_move(t, e, 5), 0);
	cr_assert(e->fd == 5 && e->fds == 1 && table_by_fd(t, 5) == e);
	table_alias(t, e, 6);
	cr_assert_eq(table_move(t, e, 6), 0);
	cr_assert(e->fd == 6 && e->fds == 1 && table_by_fd(t, 6) == e && !table_tracks(t, 5));
}

/* A number that the kernel has given anew, and whose row nothing has missed yet: it was lost from its own index. */
Test(table, moves_an_entry_to_a_number_that_another_row_still_has)
{
	struct entry *e = add("a", 0, 5), *stale = add("b", 0, 8);

	table_alias(t, stale, 9);
	cr_assert_eq(table_move(t, e, 8), 0);
	cr_assert(e->fd == 8 && table_by_fd(t, 8) == e && stale->fd == 9 && table_by_fd(t, 9) == stale);
	cr_assert_eq(table_move(t, e, 9), 0);
	cr_assert(table_by_fd(t, 9) == e && !table_find(t, "b", 0));
	cr_assert_eq(table_count(t), 1);
	table_remove(t, e);
	cr_assert_eq(table_count(t), 0);
}

/* ---- many ---- */

Test(table, walks_its_entries_oldest_first_while_they_are_removed)
{
	struct entry *e, *after;
	int expected = 0;

	for (int i = 0; i < 1000; i++)
		add("a", i, 2000 - i);
	for (e = table_first(t); e; e = after) {
		after = table_after(e);
		cr_assert_eq(e->id, expected++);
		if (e->id % 2)
			table_remove(t, e);
	}
	cr_assert_eq(expected, 1000);
	cr_assert_eq(table_count(t), 500);
}

Test(table, walks_its_descriptors_across_holes)
{
	static const int fds[] = {0, 1, 1023, 1024, 5000, 1 << 20};
	int fd = -1;

	for (int i = 0; i < 6; i++)
		add("a", i, fds[i]);
	for (int i = 0; i < 6; i++) {
		fd = table_next_fd(t, fd + 1);
		cr_assert_eq(fd, fds[i]);
	}
	cr_assert_eq(table_next_fd(t, fd + 1), -1);
}

Test(table, holds_a_hundred_thousand_entries_of_many_names)
{
	enum { MANY = 100000 };
	double before = processor_seconds();
	char name[40];

	for (int fd = 0; fd < MANY; fd++) {
		snprintf(name, sizeof(name), "udp:0.0.0.0:%d", fd % 1000);
		cr_assert_eq(add_next(name, fd)->id, fd / 1000);
	}
	cr_assert_eq(table_count(t), MANY);
	for (int fd = 0; fd < MANY; fd++) {
		snprintf(name, sizeof(name), "udp:0.0.0.0:%d", fd % 1000);
		cr_assert_eq(table_find(t, name, fd / 1000), table_by_fd(t, fd));
	}
	for (int fd = 0; fd < MANY; fd += 2)
		cr_assert(table_forget_fd(t, fd));
	cr_assert_eq(table_count(t), MANY / 2);
	for (int fd = 0; fd < MANY; fd++)
		cr_assert_eq(table_tracks(t, fd), fd % 2);
	table_free(t);
	cr_assert_lt(processor_seconds() - before, 2.0);
}

Test(table, agrees_with_a_plain_list_after_a_long_random_life)
{
	enum { FDS = 64, STEPS = 200000 };
	static struct entry *at[FDS]; /* what each number should say */
	unsigned seed = 1;
	char name[8];

	for (int step = 0; step < STEPS; step++) {
		int fd = rand_r(&seed) % FDS, other = rand_r(&seed) % FDS;
		struct entry *e = at[fd];
		bool last;

		snprintf(name, sizeof(name), "n%d", rand_r(&seed) % 8);
		switch (rand_r(&seed) % 6) {
		case 0:
			cr_assert_eq(table_add_next(t, name, fd, e ? NULL : &at[fd]), e ? -EEXIST : 0);
			break;
		case 1:
			if (e)
				cr_assert_eq(table_alias(t, e, other), at[other] ? -EEXIST : 0);
			if (e && !at[other])
				at[other] = e;
			break;
		case 2:
			last = e && e->fds == 1;
			cr_assert_eq(table_forget_fd(t, fd), last);
			at[fd] = NULL;
			break;
		case 3:
			if (!e || at[other])
				break;
			cr_assert_eq(table_move(t, e, other), 0);
			for (int i = 0; i < FDS; i++)
				at[i] = at[i] == e ? NULL : at[i];
			at[other] = e;
			break;
		case 4:
			if (e)
				table_make_orphan(t, e);
			break;
		default:
			if (e)
				table_adopt(t, e);
		}
		for (int i = 0; i < FDS; i++)
			cr_assert_eq(table_by_fd(t, i), at[i], "step %d", step);
		if (at[fd])
			cr_assert(at[at[fd]->fd] == at[fd] && table_find(t, at[fd]->name, at[fd]->id) == at[fd]);
	}
}

/* What was said to come need not come, and more may. */
Test(table, holds_more_and_less_than_was_reserved)
{
	static const size_t reserved[] = {0, 1, 100, 3000, 1000000};

	for (size_t r = 0; r < sizeof(reserved) / sizeof(reserved[0]); r++) {
		struct table *reserving = table_new();

		table_reserve(reserving, reserved[r], reserved[r] * 20);
		for (int i = 0; i < 3000; i++)
			cr_assert_eq(table_add(reserving, "some name", i, i, NULL), 0);
		for (int i = 0; i < 3000; i++) {
			cr_assert_eq(table_peek(reserving, "some name", 9, i), i);
			cr_assert_eq(table_peek(reserving, "some name", 9, 3000 + i), -ENOENT);
		}
		table_free(reserving);
	}
}
