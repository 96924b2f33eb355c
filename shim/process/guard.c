/* SPDX-License-Identifier: MIT */
/* The lock, and the depth "inside the library". */
#define _GNU_SOURCE
#include "process/guard.h"

#include "base/next.h"
#include "process/birth.h"
#include "process/sandbox.h"

#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct table *cpr__table;
struct settings cpr__settings;

cpr_thread int guard_depth;
cpr_thread bool guard_noted;

static void (*answer_noted)(void);

enum { SIGCANCEL = 32 };

static const int unreadable;
cpr_touched const volatile int *guard_readable = &unreadable;
static cpr_touched int *readable; /* cleared in a child: until the guard has seen that its table is whole */
static cpr_touched _Atomic int lock_word; /* 0 free, 1 held, 2 held and waited for */
static cpr_touched _Atomic(void *) holder; /* the thread that is changing the table. (A callback of cpr_walk_fd may call close(), or fork) */
static cpr_touched _Atomic(void *) forker; /* the thread that has the lock from fork()'s first moment to its last: its handlers may change the table */
static cpr_touched int forks_in_forks;     /* the forker's handlers may fork */
static bool broken;                        /* born while another thread was changing the table */

/* Where a thread's errno is tells threads apart without a system call, and a child's first thread is where its parent's forking thread was. */
static inline void *self(void)
{
	return &errno;
}

/* ---- the lock ---- */

void guard_fill(sigset_t *all)
{
	unsigned long first;

	sigfillset(all);
	memcpy(&first, all, sizeof(first));
	first |= 1UL << (SIGCANCEL - 1); /* sigaddset() refuses. Not SIGSETXID: setuid() waits until every thread has handled it */
	memcpy(all, &first, sizeof(first));
}

void guard_block(sigset_t *before)
{
	sigset_t all;

	guard_fill(&all);
	next_sys(SYS_rt_sigprocmask, SIG_BLOCK, &all, before, _NSIG / 8);
}

void guard_unblock(const sigset_t *before)
{
	int saved_errno = errno;

	next_sys(SYS_rt_sigprocmask, SIG_SETMASK, before, NULL, _NSIG / 8);
	errno = saved_errno;
}

static void acquire(void)
{
	int free = 0;

	if (atomic_compare_exchange_strong_explicit(&lock_word, &free, 1, memory_order_acquire, memory_order_relaxed))
		return;
	while (atomic_exchange_explicit(&lock_word, 2, memory_order_acquire))
		next_sys(SYS_futex, &lock_word, FUTEX_WAIT_PRIVATE, 2, NULL);
}

static void release(void)
{
	if (atomic_exchange_explicit(&lock_word, 0, memory_order_release) == 2)
		next_sys(SYS_futex, &lock_word, FUTEX_WAKE_PRIVATE, 1);
}

bool guard_lock(struct guard_hold *hold)
{
	int saved_errno = errno;

	if (unlikely(!cpr__table || sandboxed() || atomic_load_explicit(&holder, memory_order_relaxed) == self() || !birth_own_memory() || broken))
		return false;
	guard_block(&hold->mask);
	if (likely(atomic_load_explicit(&forker, memory_order_relaxed) != self()))
		acquire();
	atomic_store_explicit(&holder, self(), memory_order_relaxed);
	errno = saved_errno;
	return true;
}

void guard_unlock(const struct guard_hold *hold)
{
	int saved_errno = errno;

	atomic_store_explicit(&holder, NULL, memory_order_relaxed);
	if (likely(atomic_load_explicit(&forker, memory_order_relaxed) != self()))
		release();
	guard_unblock(&hold->mask);
	errno = saved_errno;
}

void guard_when_noted(void (*answer)(void))
{
	answer_noted = answer;
}

void guard_answer_noted(void)
{
	int saved_errno = errno; /* what the wrapper's call has said */
	sigset_t before;

	guard_noted = false;
	if (!answer_noted)
		return;
	guard_block(&before); /* as in the handler, for which it is written */
	answer_noted();
	guard_unblock(&before);
	errno = saved_errno;
}

/* ---- forks ---- */

/*
 * One thread may hold the lock when another forks: so it is taken before. The child lets go of it when it first asks for something (process/birth.c); for the one thread
 * which is in the child was the one that held it. Until then its signals cannot be blocked: nobody would unblock them. Its handlers, between here and the
 * fork, find the table whole, and may change it.
 */
static __attribute__((hot)) void before_fork(void)
{
	sigset_t before;

	if (unlikely(!birth_self->pid))
		birth_own_memory(); /* a child's child needs to know whose it is */
	if (forker == self()) {
		forks_in_forks++;
	} else if (holder == self()) {
		forker = self();
	} else if (!birth_is_single_threaded()) {
		guard_block(&before);
		acquire();
		forker = self();
		guard_unblock(&before);
	}
}

static __attribute__((hot)) void after_fork(void)
{
	sigset_t before;

	if (likely(forker != self()))
		return;
	if (forks_in_forks) {
		forks_in_forks--;
		return;
	}
	guard_block(&before);
	forker = NULL;
	if (holder != self())
		release();
	guard_unblock(&before);
}

/* Which thread of its parent's has made this child? NULL: not known. Its first thread is that one; another one may be the first that asks. */
static void *maker(void)
{
	return next_sys(SYS_gettid) == getpid() ? self() : forker;
}

static void when_born(void)
{
	if (atomic_load(&lock_word) && (!holder || holder != maker())) {
		broken = holder; /* by _Fork() or clone(): before_fork() holds the lock for fork() */
		holder = NULL;
		atomic_store(&lock_word, 0);
	}
	forker = NULL;
	forks_in_forks = 0;
	*readable = !broken;
}

int guard_init(void)
{
	readable = birth_cleared(sizeof(*readable));
	if (!readable)
		return -ENOMEM;
	*readable = 1;
	guard_readable = readable;
	birth_around_fork(before_fork, after_fork);
	birth_when_born(when_born);
	return 0;
}
