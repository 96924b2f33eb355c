/* SPDX-License-Identifier: MIT */
/* The lock, the depth "inside the shim", and what a child knows of itself. */
#define _GNU_SOURCE
#include "process/page.h"

#include "base/next.h"
#include "base/pool.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <unistd.h>

#pragma weak __libc_single_threaded

struct table *cpr__table;
struct settings cpr__settings;

cpr_thread int guard_depth;
cpr_thread bool guard_noted;

static void (*answer_noted)(void);

enum {
	SIGCANCEL = 32,
	WIPED_ROOM = 1 << 16,
	BORN_MAX = 4,
	FORKING_MAX = 2,
};

cpr_touched struct wiped *birth_self;
static const int unreadable;
cpr_touched const volatile int *birth_readable = &unreadable;
cpr_touched int birth_born_as; /* this process's pid; in a child that has just been born, its parent's, even if that is gone already */
static cpr_touched _Atomic int lock_word; /* 0 free, 1 held, 2 held and waited for */
static cpr_thread bool forking; /* this thread has it, from fork()'s first moment to its last: its handlers may change the table */
static cpr_thread bool holding; /* this thread has it: a callback of cpr_walk_fd may call close() */
static bool broken;           /* born while another thread was changing the table */

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

/* ---- forks ---- */

/* In one place of the library, and what they touch in another: whatever a process has touched since its last fork it looks up anew in the kernel's tables. */
#define fork_path __attribute__((hot, noinline))

static cpr_touched void (*before_fork[FORKING_MAX])(void);

void birth_when_forking(void (*before)(void))
{
	for (int i = 0; i < FORKING_MAX; i++)
		if (!before_fork[i] || before_fork[i] == before) {
			before_fork[i] = before;
			return;
		}
}

static void (*born[BORN_MAX])(void);
static int born_count;

void birth_when_born(void (*forget)(void))
{
	if (born_count < BORN_MAX)
		born[born_count++] = forget;
}

/* The first thing that a child with its own copy of our memory does here. */
static void after_birth(void)
{
	int saved_errno = errno;

	*birth_self = (struct wiped){.pid = getpid(), .slot = -1, .parent = birth_born_as};
	if (forking) {
		forking = false;
		atomic_store(&lock_word, 0);
	} else if (atomic_load(&lock_word) && !holding) { /* not by fork(): prepare() holds the lock for that */
		broken = true;
		atomic_store(&lock_word, 0);
	}
	birth_self->slot = roster_enter_worker(birth_self->pid, birth_born_as);
	birth_born_as = birth_self->pid;
	birth_self->readable = !broken;
	for (int i = 0; i < born_count; i++)
		born[i]();
	errno = saved_errno;
}

__attribute__((hot)) bool birth_own_memory(void)
{
	int me;

	if (!birth_self)
		return false;
	me = getpid();
	if (likely(birth_self->pid == me))
		return true;
	if (birth_self->pid)
		return false;
	after_birth();
	return true;
}

void *birth_cleared(size_t size)
{
	static size_t used = (sizeof(struct wiped) + 63) & ~(size_t)63;
	char *room = (char *)birth_self + used;

	if (!birth_self || size > WIPED_ROOM - used)
		return NULL;
	used += (size + 63) & ~(size_t)63;
	return room;
}

__attribute__((hot)) bool birth_is_single_threaded(void)
{
	return &__libc_single_threaded && __libc_single_threaded;
}

static inline struct forks *forks(void)
{
	return likely(birth_self->owns) ? &birth_self->forks : &page_shared->forks;
}

/*
 * A page that a child touches, code or data, costs it a fault, and a fork that is over at once costs little more than some dozens of them. So nothing of ours runs in a child before it asks
 * for something: there is no handler for it in pthread_atfork. What a child must know of itself it works out when it first asks (after_birth), and whom the owner
 * has to tell of a restart it finds by itself (enter_forked). Even the lock, which one thread may hold while another one forks, is let go of then; for the one thread
 * which is in the child was the one that held it. Until then its signals cannot be blocked: nobody would unblock them. Its handlers, between here and the
 * fork, find the table whole, and may change it (forking).
 */
static fork_path void prepare(void)
{
	sigset_t before;

	for (int i = 0; i < FORKING_MAX && before_fork[i]; i++)
		before_fork[i]();
	if (unlikely(!birth_self->pid))
		birth_own_memory(); /* a child's child needs to know whose it is */
	if (!birth_is_single_threaded() && !holding && !forking) { /* holding: from a callback of cpr_walk_fd */
		guard_block(&before);
		acquire();
		forking = true;
		guard_unblock(&before);
	}
	page_keep();
	atomic_fetch_add(&forks()->unborn, 1);
	atomic_fetch_add(&forks()->births, 1);
}

static fork_path void parent(void)
{
	sigset_t before;

	atomic_fetch_sub(&forks()->unborn, 1);
	if (likely(!forking))
		return;
	guard_block(&before);
	forking = false;
	release();
	guard_unblock(&before);
}

bool guard_lock(struct guard_hold *hold)
{
	int saved_errno = errno;

	if (unlikely(!cpr__table || holding || !birth_own_memory() || broken))
		return false;
	guard_block(&hold->mask);
	if (likely(!forking))
		acquire();
	holding = true;
	errno = saved_errno;
	return true;
}

void guard_unlock(const struct guard_hold *hold)
{
	int saved_errno = errno;

	holding = false;
	if (likely(!forking))
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

int birth_init(void)
{
	void *page = pool_map(WIPED_ROOM);

	if (!page)
		return -ENOMEM;
	if (madvise(page, WIPED_ROOM, MADV_WIPEONFORK))
		return -errno;
	birth_self = page;
	*birth_self = (struct wiped){.pid = getpid(), .slot = -1, .parent = getppid(), .readable = 1, .owns = true};
	birth_readable = &birth_self->readable;
	birth_born_as = birth_self->pid;
	return pthread_atfork(prepare, parent, NULL) ? -ENOMEM : 0;
}
