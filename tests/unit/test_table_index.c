/* SPDX-License-Identifier: MIT */
/* table_index: what is found without the lock is right or not said, whatever thread changes the table meanwhile. */
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

enum { STABLE = 500, FLEETING = 3000, FLEETING_FD = 100000 };

TestSuite(view, .init = enter);

static int peek(const char *name, int id)
{
	return table_peek(t, name, strlen(name), id);
}

Test(view, follows_every_change)
{
	struct entry *e = add("a", 1, 5), *next;

	cr_assert_eq(peek("a", 1), 5);
	cr_assert_eq(peek("a", 0), -ENOENT);
	cr_assert_eq(peek("b", 1), -ENOENT);
	cr_assert_eq(table_move(t, e, 6), 0);
	cr_assert_eq(peek("a", 1), 6);
	cr_assert_eq(table_alias(t, e, 7), 0);
	cr_assert_not(table_forget_fd(t, 6));
	cr_assert_eq(peek("a", 1), 7);
	table_make_orphan(t, e);
	cr_assert_eq(peek("a", 1), -EAGAIN, "an orphan was found without a claim");
	table_adopt(t, e);
	cr_assert_eq(peek("a", 1), 7);
	cr_assert_eq(table_add_next(t, "a", 8, &next), 0);
	cr_assert_eq(peek("a", next->id), 8);
	table_remove(t, e);
	cr_assert_eq(peek("a", 1), -ENOENT);
	table_remove(t, next);
	cr_assert_eq(peek("a", 0), -ENOENT);
}

Test(view, says_so_while_something_changes)
{
	add("a", 0, 5);
	table_change_begin(t);
	cr_assert_eq(peek("a", 0), -EAGAIN);
	cr_assert_eq(peek("b", 0), -EAGAIN);
	add("b", 0, 6); /* they nest */
	cr_assert_eq(peek("b", 0), -EAGAIN);
	table_change_end(t);
	cr_assert_eq(peek("a", 0), 5);
	cr_assert_eq(peek("b", 0), 6);
}

Test(view, tells_names_apart_by_every_byte)
{
	char name[TAG_NAME_MAX + 1];

	for (size_t len = 1; len <= 100; len++) {
		memset(name, 'x', len);
		name[len] = '\0';
		add(name, 0, (int)len);
	}
	for (size_t len = 1; len <= 100; len++) {
		memset(name, 'x', len);
		name[len] = '\0';
		cr_assert_eq(peek(name, 0), (int)len);
		for (size_t i = 0; i < len; i++) {
			name[i] = 'y';
			cr_assert_eq(peek(name, 0), -ENOENT);
			name[i] = 'x';
		}
	}
	memset(name, 'x', TAG_NAME_MAX);
	name[TAG_NAME_MAX] = '\0';
	add(name, 0, 1000);
	cr_assert_eq(peek(name, 0), 1000);
	name[TAG_NAME_MAX - 1] = 'y';
	cr_assert_eq(peek(name, 0), -ENOENT);
}

/* Hashes of 32 bits meet among some hundred thousand: then it is the name that tells. */
Test(view, agrees_with_find_in_a_large_table)
{
	enum { MANY = 300000 };
	char name[40];

	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "udp:0.0.0.0:%d", i / 2);
		add(name, i % 2, i);
	}
	for (int i = 0; i < MANY; i += 3) {
		snprintf(name, sizeof(name), "udp:0.0.0.0:%d", i / 2);
		cr_assert_eq(table_forget_fd(t, i), true);
		cr_assert_eq(peek(name, i % 2), -ENOENT);
	}
	for (int i = 0; i < 2 * MANY; i++) {
		bool there = i < MANY && i % 3;

		snprintf(name, sizeof(name), "udp:0.0.0.0:%d", i / 2);
		cr_assert_eq(peek(name, i % 2), there ? i : -ENOENT, "%s/%d", name, i % 2);
		cr_assert_eq(table_find(t, name, i % 2) != NULL, there);
	}
}

Test(view, says_so_without_memory_for_its_index)
{
	struct entry *b;

	add("a", 0, 5);
	b = add("b", 0, 6);
	/* as if there had been no memory for it */
	table_index_free((struct table_index *)((struct table_front *)t + 1));
	cr_assert_eq(peek("a", 0), -EAGAIN);
	cr_assert_eq(peek("c", 0), -EAGAIN);
	table_remove(t, b); /* of what it does not have; and there is memory again */
	add("c", 0, 7);
	cr_assert_eq(peek("a", 0), 5);
	cr_assert_eq(peek("b", 0), -ENOENT);
	cr_assert_eq(peek("c", 0), 7);
}

/* ---- while others change it ---- */

static void fill_stable(void)
{
	char name[40];

	for (int i = 0; i < STABLE; i++) {
		snprintf(name, sizeof(name), "/objects/stable-%d/vhost", i);
		add(name, i, i);
	}
}

/* How often it was said; -1: something wrong was. */
static int ask_for(int i)
{
	char name[40];
	int r;

	snprintf(name, sizeof(name), "/objects/stable-%d/vhost", i % STABLE);
	r = peek(name, i % STABLE);
	if (r != -EAGAIN && r != i % STABLE)
		return -1;
	snprintf(name, sizeof(name), "tcp:10.0.0.1:%d", i % FLEETING);
	r = r == -EAGAIN ? r : peek(name, 0);
	if (r != -EAGAIN && r != -ENOENT && r != FLEETING_FD + i % FLEETING)
		return -1;
	return r != -EAGAIN;
}

/* All of them come, so that buckets are doubled and blocks of all sizes are taken, and go again. */
static void change_once(bool with_stable)
{
	char name[64];

	for (int i = 0; i < FLEETING; i++) {
		snprintf(name, sizeof(name), "tcp:10.0.0.1:%d", i);
		add(name, 0, FLEETING_FD + i);
	}
	for (int i = 0; i < FLEETING; i++) /* what takes the place of freed entries is no pointer */
		if (i % 2) {
			table_forget_fd(t, FLEETING_FD + i);
			snprintf(name, sizeof(name),
				 "\377\377\377\377\377\377\377\377 and some more of them, to fill the block: %d", i);
			add(name, 0, FLEETING_FD + i);
		}
	for (int i = 0; i < FLEETING; i++)
		table_forget_fd(t, FLEETING_FD + i);
	if (!with_stable)
		cr_assert_eq(table_count(t), 0);
}

static _Atomic bool ended;
static _Atomic long answers, wrong;

static void *reader(void *arg)
{
	long n = 0;

	for (int i = (int)(intptr_t)arg; !ended; i++) {
		int r = ask_for(i);

		wrong += r < 0;
		n += r > 0;
	}
	answers += n;
	return NULL;
}

Test(view, is_right_while_another_thread_changes_the_table)
{
	pthread_t threads[3];
	double until;

	fill_stable();
	for (intptr_t i = 0; i < 3; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, reader, (void *)(i * 1000)), 0);
	for (until = seconds() + 1; seconds() < until;)
		change_once(true);
	ended = true;
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(wrong, 0);
	cr_assert_gt(answers, 1000);
}

static void *empty_reader(void *arg)
{
	char name[40];

	for (int i = 0; !ended; i++) {
		int r;

		snprintf(name, sizeof(name), "tcp:10.0.0.1:%d", i % FLEETING);
		r = peek(name, 0);
		wrong += r != -EAGAIN && r != -ENOENT && r != FLEETING_FD + i % FLEETING;
		answers += r != -EAGAIN;
	}
	return arg;
}

/* With the last entry uthash frees its table and its buckets. */
Test(view, is_right_while_the_table_comes_and_goes)
{
	pthread_t threads[2];
	double until;

	for (int i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, empty_reader, NULL), 0);
	for (until = seconds() + 1; seconds() < until;)
		change_once(false);
	ended = true;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(wrong, 0);
	cr_assert_gt(answers, 1000);
}

static volatile sig_atomic_t asked, answered, misled;

static void ask_in_handler(int sig)
{
	int r = ask_for(++asked);

	(void)sig;
	answered += r > 0;
	misled += r < 0;
}

Test(view, is_right_in_a_handler_that_interrupts_a_change)
{
	struct itimerval often = {{0, 100}, {0, 100}};
	double until = seconds() + 10;
	int busy;

	fill_stable();
	signal(SIGALRM, ask_in_handler);
	table_change_begin(t);
	raise(SIGALRM);
	cr_assert(asked == 1 && !answered && !misled, "it believed half a change");
	table_change_end(t);
	raise(SIGALRM);
	cr_assert(asked == 2 && answered == 1 && !misled);
	setitimer(ITIMER_REAL, &often, NULL);
	do {
		change_once(true);
		busy = asked - answered;
	} while ((asked < 2000 || busy < 5) && seconds() < until);
	signal(SIGALRM, SIG_IGN);
	cr_assert_eq(misled, 0);
	cr_assert_gt(answered, 100);
	cr_assert_gt(busy, 4, "no change was ever interrupted");
}

static void *changer(void *arg)
{
	while (!ended)
		change_once(true);
	return arg;
}

/*
 * Born by a system call, while another thread is in the middle of a change that no thread ends here. It may not be
 * told, but it gets an answer.
 */
Test(view, answers_in_a_child_that_was_born_amid_a_change)
{
	pthread_t thread;

	fill_stable();
	cr_assert_eq(pthread_create(&thread, NULL, changer, NULL), 0);
	for (int round = 0; round < 100; round++) {
		int pid = (int)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL), status;

		if (!pid) {
			alarm(10);
			for (int i = 0; i < 2000; i++)
				ask_for(i);
			_exit(0);
		}
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		cr_assert_eq(status, 0, "the child ended with %#x", (unsigned)status);
	}
	ended = true;
	pthread_join(thread, NULL);
}
