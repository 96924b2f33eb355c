/* SPDX-License-Identifier: MIT */
/* The lock, the depth, forks and owners. */
#define _GNU_SOURCE
#include "guard.h"

#include "io.h"
#include "log.h"
#include "next.h"
#include "pool.h"
#include "words.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#pragma weak __libc_single_threaded

struct table *cpr__table;
struct settings cpr__settings;

cpr_thread int guard_depth;
cpr_thread bool guard_noted;

static void (*answer_noted)(void);

/* Changes with struct shared: an image that exec'ed itself may be of another version than its workers. */
enum { FORM = 3 };

/* One page-aligned block for the owner and all that it forks. */
struct shared {
	uint32_t form;
	_Atomic int owner;
	_Atomic int unborn; /* forked, and not in the list yet */
	_Atomic int claimers, claims; /* workers that have claimed something, and how much that was */
	struct guard_drain drain;
	struct {
		_Atomic int pid; /* 0: free */
		_Atomic int parent;
		uint64_t entered; /* clock ticks since boot */
		_Atomic uint64_t calm; /* the last time that it was asked for its slow requests and had none: guard_drain.survey */
	} worker[GUARD_WORKERS_MAX];
};

/*
 * The kernel clears this in every child that has a copy of our memory, however it was born (fork, _Fork, clone), and leaves it alone in one
 * that shares our memory (vfork, posix_spawn). So one getpid() tells all three apart without standing in front of any of them: vfork cannot
 * be wrapped in C at all, and system() and popen() spawn inside libc where nobody stands.
 */
struct wiped {
	int pid;
	int slot; /* of the worker, -1: none */
	int parent;
	int claimer; /* its number among those who claim, from 1 on; 0: none yet */
	int readable; /* after_birth() was here, and the table is whole */
};

static cpr_touched struct shared *shared;
static int page_fd = -1; /* the memfd of it, for the program's own exec; -1: there was no fork yet, -2: there is none */
static int page_filters;
static void keep_page(void);
static cpr_touched struct wiped *wiped;
static const int unreadable;
cpr_touched const volatile int *guard_readable = &unreadable;
static cpr_touched int born_as; /* this process's pid; in a child that has just been born, its parent's, even if that is gone already */
static cpr_touched _Atomic int lock_word; /* 0 free, 1 held, 2 held and waited for */
static cpr_thread bool holding; /* this thread has it: a callback of cpr_walk_fd may call close() */
static bool broken;           /* born while another thread was changing the table */

/* ---- the lock ---- */

void guard_block(sigset_t *before)
{
	sigset_t all;

	sigfillset(&all);
	next_sys(SYS_rt_sigprocmask, SIG_BLOCK, &all, before, _NSIG / 8);
}

void guard_unblock(const sigset_t *before)
{
	int kept = errno;

	next_sys(SYS_rt_sigprocmask, SIG_SETMASK, before, NULL, _NSIG / 8);
	errno = kept;
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

/* In one place, and as little of it as can be: see prepare(). */
#define fork_path __attribute__((hot, noinline))

static uint64_t ticks_now(void);

/* Which child takes which place: all of the first ones stand in the page that is touched anyway. */
enum { FIRST_PLACES = 128 };

/* Places of the dead are free: most children end without a word. */
static fork_path bool is_taken(int pid)
{
	int kept = errno;
	bool taken = kill(pid, 0) == 0 || errno != ESRCH;

	errno = kept;
	return taken;
}

/* The place of this process: its own if it has one (or one of its pid, who is dead). -1: there is none left. */
static fork_path int enter_worker(int me)
{
	for (int i = 0; i < GUARD_WORKERS_MAX; i++) {
		int slot = i < FIRST_PLACES ? (me + i) % FIRST_PLACES : i, there = atomic_load(&shared->worker[slot].pid);

		if (there && there != me && is_taken(there))
			continue;
		if (!atomic_compare_exchange_strong(&shared->worker[slot].pid, &there, me))
			continue;
		atomic_store(&shared->worker[slot].parent, born_as);
		shared->worker[slot].entered = ticks_now();
		return slot;
	}
	log_warn("more than %d processes forked: process %d will not be told of a restart", (int)GUARD_WORKERS_MAX, me);
	return -1;
}

static void register_worker(void)
{
	wiped->slot = enter_worker(wiped->pid);
}

/* The first thing that a child with its own copy of our memory does here. */
static void after_birth(void)
{
	int kept = errno;

	*wiped = (struct wiped){.pid = getpid(), .slot = -1, .parent = born_as};
	if (atomic_load(&lock_word) && !holding) { /* not by fork(): prepare() holds the lock for that, and child() lets go of it first */
		broken = true;
		atomic_store(&lock_word, 0);
	}
	register_worker();
	born_as = wiped->pid;
	wiped->readable = !broken;
	errno = kept;
}

bool guard_own_memory(void)
{
	int me;

	if (!wiped)
		return false;
	me = getpid();
	if (likely(wiped->pid == me))
		return true;
	if (wiped->pid)
		return false;
	after_birth();
	return true;
}

static cpr_touched struct {
	sigset_t before; /* written with the lock held */
	bool locked;
} forking;

/*
 * A page that a child touches, code or data, costs it a fault, and a fork that is over at once costs little more than some dozens of them. So nothing is
 * written that need not be: where there is one thread nobody can hold the lock but that, and what a child must know of itself it works out when it is first asked
 * (after_birth). It only enters itself as a worker: it may never come back to us.
 */
bool guard_is_alone(void)
{
	return &__libc_single_threaded && __libc_single_threaded;
}

static void prepare(void)
{
	sigset_t before;

	guard_own_memory(); /* a child's child needs to know whose it is */
	if (!guard_is_alone() && !holding) { /* holding: from a callback of cpr_walk_fd */
		guard_block(&before);
		acquire();
		forking.before = before;
		forking.locked = true;
	}
	if (unlikely(page_fd == -1))
		keep_page();
	atomic_fetch_add(&shared->unborn, 1);
}

static void parent(void)
{
	sigset_t before;

	if (!forking.locked)
		return;
	before = forking.before;
	forking.locked = false;
	release();
	guard_unblock(&before);
}

static fork_path void child(void)
{
	sigset_t before;

	enter_worker(getpid());
	atomic_fetch_sub(&shared->unborn, 1);
	if (!forking.locked)
		return;
	before = forking.before;
	forking.locked = false;
	atomic_store(&lock_word, 0);
	guard_unblock(&before);
}

bool guard_lock(struct guard_hold *hold)
{
	int kept = errno;

	if (unlikely(!cpr__table || holding || !guard_own_memory() || broken))
		return false;
	hold->cancel = guard_defer_cancel();
	guard_block(&hold->mask);
	acquire();
	holding = true;
	errno = kept;
	return true;
}

void guard_unlock(const struct guard_hold *hold)
{
	int kept = errno;

	holding = false;
	release();
	guard_unblock(&hold->mask);
	guard_restore_cancel(hold->cancel);
	errno = kept;
}

void guard_when_noted(void (*answer)(void))
{
	answer_noted = answer;
}

void guard_answer_noted(void)
{
	int kept = errno /* what the wrapper's call has said */, cancel = guard_defer_cancel();
	sigset_t before;

	guard_noted = false;
	if (!answer_noted)
		return;
	guard_block(&before); /* as in the handler, for which it is written */
	answer_noted();
	guard_unblock(&before);
	guard_restore_cancel(cancel);
	errno = kept;
}

/* ---- owners and workers ---- */

/* Field `which` (from 4 on) of /proc/PID/stat; 0 for who is gone, or dead and not yet waited for. Behind the last ')': a name may hold anything. */
static uint64_t stat_field(int pid, int which)
{
	char path[40], stat[1024];
	struct text t = TEXT_ON(path);
	const char *at;
	uint64_t value = 0;

	text_format(&t, "/proc/%d/stat", pid);
	if (io_read_file(path, stat, sizeof(stat)) <= 0)
		return 0;
	at = strrchr(stat, ')');
	if (!at || !at[1] || at[2] == 'Z' || at[2] == 'X')
		return 0;
	for (int field = 2; field < which && at; field++)
		at = strchr(at + 1, ' ');
	for (at = at ? at + 1 : ""; *at >= '0' && *at <= '9'; at++)
		value = value * 10 + (uint64_t)(*at - '0');
	return value;
}

uint64_t guard_start_time(int pid)
{
	return stat_field(pid, 22);
}

int64_t guard_cpu_time(int pid)
{
	struct timespec used = {0};
	clockid_t clock;

	if (!clock_getcpuclockid(pid, &clock))
		clock_gettime(clock, &used);
	return used.tv_sec * INT64_C(1000000000) + used.tv_nsec;
}

static bool is_gone(int pid)
{
	int kept = errno;
	bool gone = kill(pid, 0) && errno == ESRCH;

	gone = gone || (!guard_start_time(pid) && guard_start_time(getpid())); /* without /proc nobody can tell a zombie */
	errno = kept;
	return gone;
}

/* Clock ticks since boot, as start times are told. */
static fork_path uint64_t ticks_now(void)
{
	struct timespec now = {0};

	next_sys(SYS_clock_gettime, CLOCK_BOOTTIME, &now); /* not by the vdso, which is three pages more for a child */
	return (uint64_t)now.tv_sec * 100 + (uint64_t)now.tv_nsec / 10000000;
}

/*
 * A live worker of ours? The page is written by workers, who may have less rights than the owner, and a pid is given out again: before anything is sent to one, it
 * must have been there when it was entered, and descend from the owner.
 */
static bool is_worker(int slot, int owner)
{
	int pid = atomic_load(&shared->worker[slot].pid), parent = pid;
	uint64_t start = pid > 1 && pid != owner ? guard_start_time(pid) : 0;

	if (!start || start > shared->worker[slot].entered + 1)
		return false;
	for (int depth = 0; depth < 16 && parent > 1; depth++) {
		parent = (int)stat_field(parent, 4);
		if (parent == owner)
			return true;
	}
	return false;
}

int guard_owner(void)
{
	return shared ? atomic_load(&shared->owner) : 0;
}

bool guard_is_owner(void)
{
	int owner;

	if (!shared || !guard_own_memory())
		return false;
	owner = atomic_load(&shared->owner);
	if (owner == wiped->pid)
		return true;
	if (getppid() == wiped->parent || !is_gone(owner))
		return false;
	if (!atomic_compare_exchange_strong(&shared->owner, &owner, wiped->pid))
		return false;
	guard_worker_leaves();
	log_info("the starting process %d is gone: this one is the owner now", owner);
	return true;
}

/* A worker enters itself when it first runs: who was forked a moment ago is waited for, 100 ms at most (a fork that failed has no child to come). */
static void await_births(void)
{
	struct timespec ms = {0, 1000000};

	for (int i = 0; i < 100 && atomic_load(&shared->unborn) > 0; i++)
		next_sys(SYS_nanosleep, &ms, NULL);
	if (atomic_load(&shared->unborn) != 0)
		atomic_store(&shared->unborn, 0);
}

bool guard_is_worker(int pid)
{
	for (int i = 0; shared && i < GUARD_WORKERS_MAX; i++)
		if (atomic_load(&shared->worker[i].pid) == pid)
			return true;
	return false;
}

size_t guard_workers(int *pids, size_t most)
{
	size_t n = 0;

	if (shared)
		await_births();

	for (int i = 0; shared && i < GUARD_WORKERS_MAX && n < most; i++)
		if (atomic_load(&shared->worker[i].pid) && is_worker(i, guard_owner()))
			pids[n++] = atomic_load(&shared->worker[i].pid);
	return n;
}

struct guard_drain *guard_shared_drain(void)
{
	return shared ? &shared->drain : NULL;
}

size_t guard_worker_count(void)
{
	size_t n = 0;

	for (int i = 0; shared && i < GUARD_WORKERS_MAX; i++)
		n += atomic_load(&shared->worker[i].pid) && is_worker(i, guard_owner());
	return n;
}

int guard_claimer(void)
{
	if (!wiped->claimer)
		wiped->claimer = atomic_fetch_add(&shared->claimers, 1) + 1;
	return wiped->claimer - 1;
}

void guard_claimed(void)
{
	atomic_fetch_add(&shared->claims, 1);
}

int guard_claims(void)
{
	return shared ? atomic_load(&shared->claims) : 0;
}

void guard_worker_calm(uint64_t survey)
{
	if (guard_own_memory() && wiped->slot >= 0)
		atomic_store(&shared->worker[wiped->slot].calm, survey);
}

size_t guard_workers_not_calm(uint64_t survey, bool ring)
{
	size_t n = 0;

	for (int i = 0; shared && i < GUARD_WORKERS_MAX; i++) {
		int pid = atomic_load(&shared->worker[i].pid);

		if (!pid || atomic_load(&shared->worker[i].calm) == survey || !is_worker(i, guard_owner()))
			continue;
		if (ring)
			kill(pid, cpr__settings.signal);
		n++;
	}
	return n;
}

bool guard_has_workers(void)
{
	return shared && (atomic_load(&shared->unborn) > 0 || guard_worker_count());
}

void guard_worker_leaves(void)
{
	if (guard_own_memory() && wiped->slot >= 0)
		atomic_store(&shared->worker[wiped->slot].pid, 0);
}

void guard_worker_stays(void)
{
	int free = 0;

	if (guard_own_memory() && wiped->slot >= 0 && !atomic_compare_exchange_strong(&shared->worker[wiped->slot].pid, &free, wiped->pid))
		register_worker();
}

static bool is_page(int fd, uint64_t ino)
{
	struct stat st;

	return fd >= 0 && !fstat(fd, &st) && st.st_ino == ino && st.st_size == sizeof(struct shared);
}

int guard_page(uint64_t *ino)
{
	static uint64_t known;
	struct stat st;

	if (!known && page_fd >= 0 && !fstat(page_fd, &st))
		known = st.st_ino;
	*ino = known;
	return is_page(page_fd, known) ? page_fd : -1; /* else somebody has closed what he does not know */
}

void guard_inherit(int fd, uint64_t ino)
{
	struct shared *page;

	if (!is_page(fd, ino))
		return;
	page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		return;
	if (page->form != FORM || atomic_load(&page->owner) != wiped->pid) {
		munmap(page, sizeof(*page));
		next_close(fd);
		return;
	}
	munmap(shared, sizeof(*shared));
	shared = page;
	next_fcntl(fd, F_SETFD, (void *)(long)FD_CLOEXEC);
	if (page_fd >= 0)
		next_close(page_fd);
	page_fd = fd;
	atomic_store(&shared->drain.nonce, 0); /* a drain ends with the image that wanted it */
	atomic_store(&shared->unborn, 0);
}

/* The page, and its memfd into *fd. */
static struct shared *make_page(int filters, int *fd)
{
	char name[32];
	struct text t = TEXT_ON(name);
	cleanup_fd int made = -1;
	void *page;

	text_format(&t, WORDS_PAGE_NAME "%d.%d", cpr__settings.signal, filters);
	made = io_memfd(name);
	if (made < 0 || ftruncate(made, sizeof(struct shared)))
		return NULL;
	page = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, made, 0);
	if (page == MAP_FAILED)
		return NULL;
	*fd = steal_fd(&made);
	return page;
}

/*
 * Before the first fork. Until then nobody shares the page, and its memfd was closed, since a program that never forks should not find a descriptor that it did not open. A program
 * that forks may exec itself afterwards, and must then have something to hand on: so it gets another page, whose memfd stays open, where nobody looks for one. The old mapping
 * stays, too: another thread may be looking at it.
 */
static __attribute__((noinline, cold)) void keep_page(void)
{
	int kept = errno, fd, up;
	struct shared *page;

	page_fd = -2; /* tried */
	page = atomic_load(&shared->owner) == wiped->pid ? make_page(page_filters, &fd) : NULL;
	if (page) {
		memcpy(page, shared, sizeof(*page));
		up = next_fcntl(fd, F_DUPFD_CLOEXEC, (void *)(long)WORDS_HIGH);
		next_close(fd);
		if (up >= 0) {
			page_fd = up;
			shared = page;
		} else {
			munmap(page, sizeof(*page));
		}
	}
	errno = kept;
}

int guard_init(int filters)
{
	void *page;
	int fd;

	shared = make_page(filters, &fd);
	if (!shared)
		return -errno;
	next_close(fd);
	shared->form = FORM;
	page_filters = filters;
	page = pool_map(4096);
	if (!page)
		return -ENOMEM;
	if (madvise(page, 4096, MADV_WIPEONFORK))
		return -errno;
	wiped = page;
	*wiped = (struct wiped){.pid = getpid(), .slot = -1, .parent = getppid(), .readable = 1};
	guard_readable = &wiped->readable;
	born_as = wiped->pid;
	atomic_store(&shared->owner, wiped->pid);
	return pthread_atfork(prepare, parent, child) ? -ENOMEM : 0;
}
