/* SPDX-License-Identifier: MIT */
/* Clients of a turn, counted in the page. */
#define _GNU_SOURCE
#include "process/share.h"

#include "base/io.h"
#include "base/next.h"
#include "process/birth.h"
#include "process/caller.h"
#include "process/page.h"
#include "process/task.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>

enum {
	SPIN_US = 200,  /* the program asks again and again: epoll says that a client is there */
	WAIT_US = 5000, /* of a listener that blocks */
	HELD_MS = 1000, /* the supervisor may have been killed: then clients go on to be accepted */
};

static const char over[] = "result=turn\n";

_Atomic bool share_counts;
static _Atomic bool reached; /* by a client of this process */

void share_ask(uint32_t clients, uint64_t nonce)
{
	struct page_share *share = &page_shared->share;

	atomic_store(&share->accepted, 0);
	atomic_store(&share->reached_at, 0);
	atomic_store(&share->nonce, nonce);
	atomic_store(&share->wanted, clients);
}

void share_begin(void)
{
	atomic_store(&share_counts, page_shared && atomic_load(&page_shared->share.wanted));
}

void share_end(void)
{
	atomic_store(&share_counts, false);
}

uint32_t share_accepted(void)
{
	return page_shared ? atomic_load(&page_shared->share.accepted) : 0;
}

/* Clients that come before the supervisor has closed the gate are counted as well. */
void share_add(void)
{
	struct page_share *share = &page_shared->share;

	if (atomic_fetch_add(&share->accepted, 1) + 1 != atomic_load(&share->wanted))
		return;
	atomic_store(&share->reached_at, io_now());
	atomic_store(&reached, true);
	task_wake();
}

bool share_is_over(int listener)
{
	const struct page_share *share = &page_shared->share;
	int64_t at = atomic_load(&share->reached_at);
	struct timespec pause = {0};
	int saved_errno = errno, flags;

	if (!at || io_now() - at > HELD_MS * INT64_C(1000000))
		return false;
	flags = next_fcntl(listener, F_GETFL, NULL);
	pause.tv_nsec = (flags & O_NONBLOCK ? SPIN_US : WAIT_US) * 1000;
	next_sys(SYS_nanosleep, &pause, NULL);
	errno = saved_errno;
	return flags >= 0 && flags & O_NONBLOCK;
}

/* A word that does not arrive is no harm: a turn has a limit in time, too. */
static int share_look(void)
{
	if (atomic_exchange(&reached, false))
		caller_report(atomic_load(&page_shared->share.nonce), over, sizeof(over) - 1);
	return 0;
}

static void share_forget(void)
{
	atomic_store(&reached, false);
}

void share_init(void)
{
	task_adds(share_look);
	birth_when_born(share_forget);
}
