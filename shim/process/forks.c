/* SPDX-License-Identifier: MIT */
/* Forks of this process and its workers, counted. */
#define _GNU_SOURCE
#include "process/forks.h"

#include "base/attr.h"
#include "base/io.h"
#include "base/next.h"
#include "process/birth.h"
#include "process/page.h"

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>

enum { VAIN_MS = 2000 };

/* Cleared in a child: that counts in the page. */
static cpr_touched struct own {
	bool counts;
	struct page_forks forks;
} *own;

/*
 * CLOCK_MONOTONIC, ns: a fork of which the page tells was awaited in vain. Its process has died, or a worker writes
 * what it likes
 */
static int64_t vain_until;

static inline struct page_forks *here(void)
{
	return likely(own->counts) ? &own->forks : &page_shared->forks;
}

static __attribute__((hot)) void forks_before_fork(void)
{
	atomic_fetch_add(&here()->unborn, 1);
	atomic_fetch_add(&here()->births, 1);
}

static __attribute__((hot)) void forks_after_fork(void)
{
	atomic_fetch_sub(&here()->unborn, 1);
}

/* A fork that is under way, maybe beneath this very handler, is to be counted where it began. */
void forks_of_owner(void)
{
	own->counts = !atomic_load(&page_shared->forks.unborn);
}

unsigned forks_births(void)
{
	return page_shared ? atomic_load(&page_shared->forks.births) + atomic_load(&own->forks.births) : 0;
}

bool forks_under_way(void)
{
	return atomic_load(&own->forks.unborn) > 0 ||
	       (atomic_load(&page_shared->forks.unborn) > 0 && io_now() >= vain_until);
}

bool forks_await(void)
{
	struct timespec ms = {0, 1000000};
	int unborn;

	for (int i = 0; i < 100 && forks_under_way(); i++)
		next_sys(SYS_nanosleep, &ms, NULL);
	unborn = atomic_load(&page_shared->forks.unborn);
	if (unborn > 0 && io_now() >= vain_until) {
		vain_until = io_now() + VAIN_MS * INT64_C(1000000);
		atomic_compare_exchange_strong(&page_shared->forks.unborn, &unborn, 0);
	}
	return !forks_under_way();
}

int forks_init(void)
{
	own = birth_cleared(sizeof(*own));
	if (!own)
		return -ENOMEM;
	own->counts = true;
	birth_around_fork(forks_before_fork, forks_after_fork);
	return 0;
}
