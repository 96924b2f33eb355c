/* SPDX-License-Identifier: MIT */
/* Loose orphans are claimed without the lock, beside threads and handlers that change the table. */
#include "../support/entries.h"
#include "../support/one_table.h"
#include "model/table_index.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(loose, .init = enter);

static int peek(const char *name, int id)
{
	return table_peek(t, name, strlen(name), id);
}

static int claim(const char *name, int id)
{
	return table_claim(t, name, strlen(name), id);
}

static struct entry *add_loose(const char *name, int id, int fd)
{
	struct entry *e = add(name, id, fd);

	e->kind = ENTRY_API;
	e->flags |= ENTRY_CLOEXEC;
	table_make_loose(t, e);
	return e;
}

Test(loose, claims_a_loose_orphan_once)
{
	struct entry *e = add_loose("a", 1, 5);

	cr_assert_eq(table_orphans(t), 1);
	cr_assert_null(table_orphan(t, "a"), "it is asked for by its tag alone");
	cr_assert_eq(peek("a", 1), -EAGAIN);
	cr_assert_eq(claim("a", 2), -ENOENT);
	cr_assert_eq(claim("a", 1), 5);
	cr_assert_eq(e->flags, ENTRY_CLOEXEC);
	cr_assert_eq(table_orphans(t), 0);
	cr_assert_eq(claim("a", 1), 5);
	cr_assert_eq(peek("a", 1), 5);
	cr_assert_eq(table_orphans(t), 0);
	cr_assert_not(table_hold(e));
	table_adopt(t, e);
	cr_assert_eq(table_orphans(t), 0);
}

Test(loose, does_not_claim_what_is_held_or_listed_or_changing)
{
	struct entry *e = add_loose("a", 0, 5), *listed = add("b", 0, 6);

	table_make_orphan(t, listed);
	cr_assert_eq(claim("b", 0), -EAGAIN);
	table_change_begin(t);
	cr_assert_eq(claim("a", 0), -EAGAIN);
	table_change_end(t);
	cr_assert(table_hold(e));
	cr_assert_eq(claim("a", 0), -EAGAIN);
	cr_assert_eq(table_orphans(t), 2);
	table_adopt(t, e);
	cr_assert_eq(claim("a", 0), 5);
	table_remove(t, e);
	table_remove(t, listed);
	cr_assert_eq(table_orphans(t), 0);
}

Test(loose, claims_no_more_what_was_moved)
{
	struct entry *e = add_loose("a", 0, 5);

	cr_assert_eq(table_move(t, e, 7), 0);
	cr_assert_eq(claim("a", 0), -EAGAIN);
	cr_assert_eq(table_orphans(t), 1);
	table_remove(t, e);
	cr_assert_eq(table_orphans(t), 0);
}

Test(loose, gives_no_memory_out_again_that_a_thread_claims_from)
{
	/* behind the front: see struct table */
	struct table_index *v = (struct table_index *)((char *)t + sizeof(struct table_front));
	struct entry *e = add_loose("a", 0, 5), *next;

	atomic_fetch_add(&v->claiming, 1);
	table_remove(t, e);
	next = add("b", 0, 6);
	cr_assert_neq(next, e);
	cr_assert_not(e->flags & (ENTRY_ORPHAN | ENTRY_LOOSE), "it could still be claimed");
	atomic_fetch_sub(&v->claiming, 1);
	table_remove(t, next); /* and frees what was put off */
	add("c", 0, 7);
	add("d", 0, 8);
	cr_assert(table_find(t, "c", 0) == e || table_find(t, "d", 0) == e);
}

static _Atomic bool ended;
static _Atomic long answers, wrong;
static volatile sig_atomic_t asked, misled;

enum { LOOSE = 5000, CLAIMERS = 3 };

static _Atomic int round_now, claimed_by[LOOSE];

static void *claimer(void *arg)
{
	for (int round = 1; !ended; round++) {
		while (round_now < round && !ended)
			;
		for (int i = 0; i < LOOSE && !ended; i++) {
			int fd = claim("loose", i);

			wrong += fd != -EAGAIN && fd != -ENOENT && fd != i;
			claimed_by[i] += fd == i;
		}
		answers++;
	}
	return arg;
}

/* Every third is removed, every third is held and adopted; the others stay for the claimers. */
Test(loose, claims_right_while_another_thread_removes_and_adopts)
{
	pthread_t threads[CLAIMERS];
	double until = seconds() + 1;
	int rounds = 0;

	for (int i = 0; i < CLAIMERS; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, claimer, NULL), 0);
	for (; seconds() < until || rounds < 4; rounds++) {
		for (int i = 0; i < LOOSE; i++)
			add_loose("loose", i, i);
		answers = 0;
		round_now = rounds + 1;
		for (int i = 0; i < LOOSE; i++) {
			struct entry *e = table_find(t, "loose", i);

			if (i % 3 == 0)
				table_remove(t, e);
			else if (i % 3 == 1)
				table_adopt(t, e);
		}
		while (answers < CLAIMERS)
			;
		for (int i = 0; i < LOOSE; i++)
			if (i % 3)
				cr_assert_eq(claim("loose", i), i);
		cr_assert_eq(table_orphans(t), 0, "%zu are counted", table_orphans(t));
		for (int i = 0; i < LOOSE; i++)
			if (i % 3)
				table_remove(t, table_find(t, "loose", i));
	}
	ended = true;
	for (int i = 0; i < CLAIMERS; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(wrong, 0);
	cr_assert_gt(rounds, 3);
}

static volatile sig_atomic_t next_loose;

static void claim_in_handler(int sig)
{
	(void)sig;
	for (int i = next_loose; i < next_loose + 3 && i < LOOSE; i++)
		misled += claim("loose", i) != i;
	asked++;
}

Test(loose, claims_in_a_handler_that_interrupts_a_claim)
{
	struct itimerval often = {{0, 50}, {0, 50}}, never = {{0, 0}, {0, 0}};
	double until = seconds() + 10;

	signal(SIGALRM, claim_in_handler);
	do {
		for (int i = 0; i < LOOSE; i++)
			add_loose("loose", i, i);
		setitimer(ITIMER_REAL, &often, NULL);
		for (int i = 0; i < LOOSE; i++) {
			next_loose = i;
			misled += claim("loose", i) != i;
		}
		setitimer(ITIMER_REAL, &never, NULL);
		cr_assert_eq(table_orphans(t), 0);
		for (int i = 0; i < LOOSE; i++)
			table_remove(t, table_find(t, "loose", i));
	} while (asked < 1000 && seconds() < until);
	cr_assert_eq(misled, 0);
	cr_assert_gt(asked, 100);
}
