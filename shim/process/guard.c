/* SPDX-License-Identifier: MIT */
/* The lock, and the depth "inside the library". */
#define _GNU_SOURCE
#include "process/guard.h"
#include "base/guarded.h"

#include "base/log.h"
#include "base/next.h"
#include "process/birth.h"
#include "process/sandbox.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct table *cpr__table;
struct settings cpr__settings;

cpr_thread int guard_depth;

enum { SIGCANCEL = 32 };

static const int unreadable;
cpr_touched const volatile int *guard_readable = &unreadable;
static cpr_touched int *readable; /* cleared in a child: until the guard has seen that its table is whole */
static cpr_touched _Atomic int lock_word; /* 0 free, 1 held, 2 held and waited for */
/* the thread that is changing the table. (A callback of cpr_walk_fd may call close(), or fork) */
static cpr_touched _Atomic(void *) holder;
/* the thread that has the lock from fork()'s first moment to its last: its handlers may change the table */
static cpr_touched _Atomic(void *) forker;
static cpr_touched int forks_in_forks;     /* the forker's handlers may fork */
static cpr_touched _Atomic int forking;     /* threads in fork() that have taken it, or wait for it */
static cpr_touched _Atomic bool lent;       /* a round of the task runs in a thread of the program */
static cpr_touched _Atomic bool forks_unlocked; /* this process's one thread is in fork(), and has not taken it */
static const _Atomic unsigned *task_word;
static bool broken;                        /* born while another thread was changing the table */

/*
 * Where a thread's errno is tells threads apart without a system call, and a child's first thread is where its parent's
 * forking thread was.
 */
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
	/* sigaddset() refuses. Not SIGSETXID: setuid() waits until every thread has handled it */
	first |= 1UL << (SIGCANCEL - 1);
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

static _Atomic int only;

void guard_give_only(int tid)
{
	atomic_store(&only, tid);
}

static bool is_others(void)
{
	int tid = atomic_load_explicit(&only, memory_order_acquire);

	return tid && tid != (int)next_sys(SYS_gettid);
}

bool guard_lock(struct guard_hold *hold)
{
	int saved_errno = errno;

	if (unlikely(!cpr__table || sandboxed() || atomic_load_explicit(&holder, memory_order_relaxed) == self() ||
		     !birth_own_memory() || broken || is_others()))
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

/* ---- inside ---- */

enum { CLOSED_TURNS = 100, TURN_US = 1000, INSIDE_TURNS = 500, INSIDE_TURN_US = 100 };

/* A forked child finds this cleared: its one thread is not inside, or its fork is. */
static cpr_touched struct inside {
	_Atomic int count;   /* threads between guard_enter and guard_exit */
	_Atomic bool closed; /* none may come in: a restart is about to leave */
} *inside;

static void wait_us(long us)
{
	struct timespec time = {0, us * 1000};

	next_sys(SYS_nanosleep, &time, NULL);
}

/* Each looks at what the other has written after writing its own: one of the two sees the other. */
void guard_come_in(void)
{
	int saved_errno = errno;

	if (unlikely(!inside))
		return;
	atomic_fetch_add(&inside->count, 1);
	for (int i = 0; i < CLOSED_TURNS && unlikely(atomic_load(&inside->closed)); i++) {
		atomic_fetch_sub(&inside->count, 1);
		wait_us(TURN_US);
		atomic_fetch_add(&inside->count, 1);
	}
	errno = saved_errno;
}

void guard_go_out(void)
{
	if (likely(inside != NULL) && atomic_load(&inside->count) > 0)
		atomic_fetch_sub(&inside->count, 1);
}

/* A handler of the program in the closing thread still comes in; and what it has interrupted inside cannot leave. */
void guard_close(bool close)
{
	int own = guard_depth > 0, saved_errno = errno;

	guard_depth += close ? 1 : -1;
	atomic_store(&inside->closed, close);
	for (int i = 0; close && i < INSIDE_TURNS && atomic_load(&inside->count) > own; i++)
		wait_us(INSIDE_TURN_US);
	errno = saved_errno;
}

/* ---- in a debug build ---- */

#ifdef CPR_DEBUG

/* No other thread can use the table while the library starts, or while a child runs the hooks of its birth. */
static bool is_alone_by_nature(void)
{
	return !birth_self->pid || birth_self->asking == self();
}

static void check_held(const char *function)
{
	if (atomic_load(&holder) == self() || is_alone_by_nature() || broken || sandboxed())
		return;
	log_error("%s was called without the guard", function);
	abort();
}

void guard_begin(void)
{
	guarded_check = check_held;
}

#else

void guard_begin(void)
{
}

#endif

/* ---- forks ---- */

static bool is_alone(void)
{
	return birth_is_single_threaded() && !(task_word && atomic_load(task_word) & 1);
}

/*
 * One thread may hold the lock while another forks, so the fork takes the lock before. The child releases it on its
 * first call into the library (process/birth.c): its one thread is the holder. Until then signals cannot be blocked,
 * since they would stay blocked. Handlers of this thread, between here and the fork, find the table whole and may
 * change it.
 */
static __attribute__((hot)) void guard_before_fork(void)
{
	sigset_t before;

	if (unlikely(!birth_self->pid))
		birth_own_memory(); /* a child's child needs to know its parent */
	if (forker == self()) {
		forks_in_forks++;
	} else if (holder == self()) {
		atomic_fetch_add(&forking, 1);
		forker = self();
	} else {
		atomic_store(&forks_unlocked, true); /* before the look at the task: see guard_await_fork */
		if (is_alone())
			return;
		atomic_store(&forks_unlocked, false);
		atomic_fetch_add(&forking, 1);
		while (atomic_load(&lent))
			wait_us(TURN_US);
		guard_block(&before);
		acquire();
		forker = self();
		guard_unblock(&before);
	}
}

static __attribute__((hot)) void guard_after_fork(void)
{
	sigset_t before;

	atomic_store(&forks_unlocked, false);
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
	atomic_fetch_sub(&forking, 1);
	guard_unblock(&before);
}

void guard_await_fork(void)
{
	for (int i = 0; i < INSIDE_TURNS && atomic_load(&forks_unlocked); i++)
		wait_us(INSIDE_TURN_US);
}

bool guard_lend(void)
{
	atomic_store(&lent, true);
	if (guard_depth == 0 && !atomic_load(&forks_unlocked) && !atomic_load(&forking))
		return true;
	atomic_store(&lent, false);
	return false;
}

void guard_lend_over(void)
{
	atomic_store(&lent, false);
}

/*
 * Which thread of its parent's has made this child? NULL: not known. Its first thread is that one; another one may be
 * the first that asks.
 */
static void *maker(void)
{
	return next_sys(SYS_gettid) == getpid() ? self() : forker;
}

static void guard_when_born(void)
{
	if (atomic_load(&lock_word) && (!holder || holder != maker())) {
		broken = holder; /* by _Fork() or clone(): guard_before_fork() holds the lock for fork() */
		holder = NULL;
		atomic_store(&lock_word, 0);
	}
	forker = NULL;
	forks_in_forks = 0;
	atomic_store(&forking, 0);
	atomic_store(&lent, false);
	atomic_store(&forks_unlocked, false);
	*readable = !broken;
}

int guard_init(void)
{
	readable = birth_cleared(sizeof(*readable));
	if (!readable)
		return -ENOMEM;
	inside = birth_cleared(sizeof(*inside));
	if (!inside)
		return -ENOMEM;
	*readable = 1;
	guard_readable = readable;
	birth_around_fork(guard_before_fork, guard_after_fork);
	birth_when_born(guard_when_born);
	return 0;
}

void guard_beside(const _Atomic unsigned *task)
{
	task_word = task;
}
