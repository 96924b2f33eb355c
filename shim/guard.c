/* SPDX-License-Identifier: MIT */
/* The lock, the depth, forks and owners. */
#define _GNU_SOURCE
#include "guard.h"

#include "forked.h"
#include "io.h"
#include "kin.h"
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
enum { FORM = 4 };

struct forks {
	_Atomic int unborn;      /* under way */
	_Atomic unsigned births; /* so far */
};

/* What becomes of a moment's exec is seen by its flags; this is for that moment. */
enum { LEAVING = 128 };

/* One page-aligned block for the owner and all that it forks. */
struct shared {
	uint32_t form;
	_Atomic int owner;
	struct forks forks; /* of all but the owner */
	_Atomic int top;         /* no worker stands at or above this */
	uint64_t since;          /* clock ticks since boot: who was there before is none of ours */
	_Atomic int claimers, claims; /* workers that have claimed something, and how much that was */
	struct guard_drain drain;
	struct {
		_Atomic int pid;
		_Atomic uint64_t at; /* clock ticks since boot */
	} leaving[LEAVING]; /* who execs, by its pid: the last ones */
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
 * be wrapped in C at all, and system() and popen() spawn inside libc where nobody stands. (What else a child must not have of its parent's lies here, too: guard_cleared.)
 */
struct wiped {
	int pid;
	int slot; /* of the worker, -1: none */
	int parent;
	int claimer; /* its number among those who claim, from 1 on; 0: none yet */
	int readable; /* after_birth() was here, and the table is whole */
	bool owns;    /* it is the owner, and so counts its forks here, not in the shared page: each page that a process touches after a fork costs it a little */
	struct forks forks;
};

enum {
	WIPED_ROOM = 1 << 16,
	BORN_MAX = 4,
};

static cpr_touched struct shared *shared;
static cpr_touched int page_fd = -1; /* the memfd of it, for the program's own exec; -1: there was no fork yet, -2: there is none */
static int page_filters;
static void keep_page(void);
static cpr_touched struct wiped *wiped;
static const int unreadable;
cpr_touched const volatile int *guard_readable = &unreadable;
static cpr_touched int born_as; /* this process's pid; in a child that has just been born, its parent's, even if that is gone already */
static cpr_touched _Atomic int lock_word; /* 0 free, 1 held, 2 held and waited for */
static cpr_thread bool forking; /* this thread has it, from fork()'s first moment to its last: its handlers may change the table */
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

/* In one place of the library, and what they touch in another: whatever a process has touched since its last fork it looks up anew in the kernel's tables. */
#define fork_path __attribute__((hot, noinline))

static cpr_touched void (*before_fork)(void);

void guard_when_forking(void (*before)(void))
{
	before_fork = before;
}

/* Which child takes which place: all of the first ones stand together. */
enum { FIRST_PLACES = 128 };

static uint64_t ticks_now(void);

/* Places of the dead are free: most children end without a word. */
static bool is_taken(int pid)
{
	int kept = errno;
	bool taken = kill(pid, 0) == 0 || errno != ESRCH;

	errno = kept;
	return taken;
}

static int place_of(int pid)
{
	int top = atomic_load(&shared->top);

	for (int slot = 0; slot < top && slot < GUARD_WORKERS_MAX; slot++)
		if (atomic_load(&shared->worker[slot].pid) == pid)
			return slot;
	return -1;
}

static void claim_place(int slot, int parent)
{
	int top = atomic_load(&shared->top);

	while (top <= slot && !atomic_compare_exchange_weak(&shared->top, &top, slot + 1))
		;
	atomic_store(&shared->worker[slot].parent, parent);
	shared->worker[slot].entered = ticks_now();
}

/* The place of a process: its own if it has one (or one of its pid, who is dead). -1: there is none left. */
static int enter_worker(int pid, int parent)
{
	int own = place_of(pid);

	for (int i = 0; i < GUARD_WORKERS_MAX; i++) {
		int slot = own >= 0 ? own : i < FIRST_PLACES ? (pid + i) % FIRST_PLACES : i, there = atomic_load(&shared->worker[slot].pid);

		if (there && there != pid && is_taken(there))
			continue;
		if (!atomic_compare_exchange_strong(&shared->worker[slot].pid, &there, pid))
			continue;
		claim_place(slot, parent);
		return slot;
	}
	log_warn("more than %d processes forked: process %d will not be told of a restart", (int)GUARD_WORKERS_MAX, pid);
	return -1;
}

static void (*born[BORN_MAX])(void);
static int born_count;

void guard_when_born(void (*forget)(void))
{
	if (born_count < BORN_MAX)
		born[born_count++] = forget;
}

/* The first thing that a child with its own copy of our memory does here. */
static void after_birth(void)
{
	int kept = errno;

	*wiped = (struct wiped){.pid = getpid(), .slot = -1, .parent = born_as};
	if (forking) {
		forking = false;
		atomic_store(&lock_word, 0);
	} else if (atomic_load(&lock_word) && !holding) { /* not by fork(): prepare() holds the lock for that */
		broken = true;
		atomic_store(&lock_word, 0);
	}
	wiped->slot = enter_worker(wiped->pid, born_as);
	born_as = wiped->pid;
	wiped->readable = !broken;
	for (int i = 0; i < born_count; i++)
		born[i]();
	errno = kept;
}

__attribute__((hot)) bool guard_own_memory(void)
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

void *guard_cleared(size_t size)
{
	static size_t used = (sizeof(struct wiped) + 63) & ~(size_t)63;
	char *room = (char *)wiped + used;

	if (!wiped || size > WIPED_ROOM - used)
		return NULL;
	used += (size + 63) & ~(size_t)63;
	return room;
}

__attribute__((hot)) bool guard_is_alone(void)
{
	return &__libc_single_threaded && __libc_single_threaded;
}

static inline struct forks *forks(void)
{
	return likely(wiped->owns) ? &wiped->forks : &shared->forks;
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

	if (unlikely(before_fork != NULL))
		before_fork();
	if (unlikely(!wiped->pid))
		guard_own_memory(); /* a child's child needs to know whose it is */
	if (!guard_is_alone() && !holding && !forking) { /* holding: from a callback of cpr_walk_fd */
		guard_block(&before);
		acquire();
		forking = true;
		guard_unblock(&before);
	}
	if (unlikely(page_fd == -1))
		keep_page();
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
	int kept = errno;

	if (unlikely(!cpr__table || holding || !guard_own_memory() || broken))
		return false;
	hold->cancel = guard_defer_cancel();
	guard_block(&hold->mask);
	if (likely(!forking))
		acquire();
	holding = true;
	errno = kept;
	return true;
}

void guard_unlock(const struct guard_hold *hold)
{
	int kept = errno;

	holding = false;
	if (likely(!forking))
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

uint64_t guard_start_time(int pid)
{
	struct kin kin;

	return kin_look(pid, &kin) && !kin.dead ? kin.start_time : 0;
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
__attribute__((hot)) static uint64_t ticks_now(void)
{
	struct timespec now = {0};

	next_sys(SYS_clock_gettime, CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 100 + (uint64_t)now.tv_nsec / 10000000;
}

/* Is it in the middle of an exec, or by now another program? */
static bool is_leaving(int pid, uint64_t start_time)
{
	int place = pid % LEAVING;

	return atomic_load(&shared->leaving[place].pid) == pid && start_time <= atomic_load(&shared->leaving[place].at);
}

void guard_await_exec(int pid)
{
	struct timespec ms = {0, 1000000};
	struct kin kin;

	for (int i = 0; shared && i < 20 && kin_look(pid, &kin) && !kin.dead && forked_only(kin.flags) && is_leaving(pid, kin.start_time); i++)
		next_sys(SYS_nanosleep, &ms, NULL);
}

__attribute__((hot)) static void note_leaving(int me)
{
	int place = me % LEAVING;

	atomic_store(&shared->leaving[place].at, ticks_now());
	atomic_store(&shared->leaving[place].pid, me);
}

/*
 * A live worker of ours? The page is written by workers, who may have less rights than the owner, and a pid is given out again: before anything is sent to one, it
 * must have been there when it was entered, and descend from the owner; and not have exec'ed since, by whatever call.
 */
static bool is_worker(int slot, int owner)
{
	int pid = atomic_load(&shared->worker[slot].pid), there = pid;
	struct kin kin;

	if (pid <= 1 || pid == owner || !kin_look(pid, &kin) || kin.dead || kin.start_time > shared->worker[slot].entered + 1 || is_leaving(pid, kin.start_time))
		return false;
	if (kin.flags && !forked_only(kin.flags)) {
		atomic_compare_exchange_strong(&shared->worker[slot].pid, &there, 0);
		return false;
	}
	for (int depth = 0; depth < 16 && kin.parent > 1; depth++) {
		if (kin.parent == owner)
			return true;
		if (!kin_look(kin.parent, &kin))
			break;
	}
	return false;
}

int guard_owner(void)
{
	return shared ? atomic_load(&shared->owner) : 0;
}

__attribute__((hot)) bool guard_is_owner(void)
{
	int owner, me = getpid();

	if (!shared)
		return false;
	owner = atomic_load(&shared->owner);
	if (me != born_as && owner != me && getppid() == born_as) /* a child that has not asked for anything yet, and most likely is about to exec */
		return false;
	if (!guard_own_memory())
		return false;
	if (owner == wiped->pid)
		return true;
	if (getppid() == wiped->parent || !is_gone(owner))
		return false;
	if (!atomic_compare_exchange_strong(&shared->owner, &owner, wiped->pid))
		return false;
	wiped->owns = !atomic_load(&shared->forks.unborn); /* a fork that is under way, maybe beneath this very handler, is to be counted where it began */
	if (wiped->slot >= 0)
		atomic_store(&shared->worker[wiped->slot].pid, 0);
	log_info("the starting process %d is gone: this one is the owner now", owner);
	return true;
}

static bool any_unborn(void)
{
	return atomic_load(&shared->forks.unborn) > 0 || atomic_load(&wiped->forks.unborn) > 0;
}

/* Forks that are under way are waited for, 100 ms at most (one whose process has died meanwhile would never be over). False: one still is. */
static bool await_births(void)
{
	struct timespec ms = {0, 1000000};
	int unborn;

	for (int i = 0; i < 100 && any_unborn(); i++)
		next_sys(SYS_nanosleep, &ms, NULL);
	unborn = atomic_load(&shared->forks.unborn);
	if (unborn)
		atomic_compare_exchange_strong(&shared->forks.unborn, &unborn, 0);
	return !any_unborn();
}

static bool (*is_stranger)(int pid);

void guard_when_strange(bool (*is)(int pid))
{
	is_stranger = is;
}

static enum forked_is what_is(int pid, uint64_t start_time)
{
	if (is_leaving(pid, start_time) || (start_time == shared->since && is_stranger && is_stranger(pid)))
		return FORKED_STRANGE;
	return guard_is_worker(pid) ? FORKED_KNOWN : FORKED_NEW;
}

static void enter_found(int pid, int parent)
{
	enter_worker(pid, parent);
}

unsigned guard_births(void)
{
	return shared ? atomic_load(&shared->forks.births) + atomic_load(&wiped->forks.births) : 0;
}

static _Atomic bool look_anyway;

void guard_look_anyway(void)
{
	atomic_store(&look_anyway, true);
}

/* Workers that were forked and have not asked for anything since: most have nothing to do with us until they are told of a restart. */
static void enter_forked(void)
{
	static atomic_flag looking = ATOMIC_FLAG_INIT;
	static unsigned seen;
	unsigned births = guard_births();
	bool all_born;

	if ((births == seen && !atomic_load(&look_anyway)) || atomic_flag_test_and_set(&looking))
		return;
	atomic_store(&look_anyway, false);
	all_born = await_births();
	if (forked_find(guard_owner(), shared->since, cpr__settings.signal, what_is, enter_found) && all_born)
		seen = births;
	atomic_flag_clear(&looking);
}

bool guard_is_worker(int pid)
{
	return shared && place_of(pid) >= 0;
}

size_t guard_workers(int *pids, size_t most)
{
	size_t n = 0;

	if (!shared)
		return 0;
	enter_forked();
	for (int i = 0; i < atomic_load(&shared->top) && n < most; i++)
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

	if (!shared)
		return 0;
	enter_forked();
	for (int i = 0; i < atomic_load(&shared->top); i++)
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

	if (!shared)
		return 0;
	enter_forked();
	for (int i = 0; i < atomic_load(&shared->top); i++) {
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
	return shared && (any_unborn() || guard_worker_count());
}

__attribute__((hot)) void guard_worker_leaves(void)
{
	int me = getpid();

	if (!shared)
		return;
	note_leaving(me);
	if (me == born_as && guard_own_memory() && wiped->slot >= 0) /* else a child that has not asked for anything, or a vfork child */
		atomic_store(&shared->worker[wiped->slot].pid, 0);
}

void guard_worker_stays(void)
{
	int me = getpid(), left = me, free = 0;

	if (!shared)
		return;
	atomic_compare_exchange_strong(&shared->leaving[me % LEAVING].pid, &left, 0);
	if (me == born_as && guard_own_memory() && wiped->slot >= 0 && !atomic_compare_exchange_strong(&shared->worker[wiped->slot].pid, &free, me))
		wiped->slot = enter_worker(me, wiped->parent);
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
	atomic_store(&shared->forks.unborn, 0);
}

void guard_let_go(int fd, uint64_t ino)
{
	struct shared *page;

	if (!ino || !is_page(fd, ino))
		return;
	page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page != MAP_FAILED && page->form == FORM && atomic_load(&page->owner) == getpid() && atomic_load(&page->drain.nonce))
		atomic_store(&page->drain.nonce, GUARD_GONE);
	if (page != MAP_FAILED)
		munmap(page, sizeof(*page));
	next_close(fd);
}

/* The page, and its memfd into *fd; in the place of `old` if that is not NULL. */
static struct shared *make_page(int filters, struct shared *old, int *fd)
{
	char name[32];
	struct text t = TEXT_ON(name);
	cleanup_fd int made = -1;
	void *page;

	text_format(&t, WORDS_PAGE_NAME "%d.%d", cpr__settings.signal, filters);
	made = io_memfd(name);
	if (made < 0 || ftruncate(made, sizeof(struct shared)))
		return NULL;
	if (old && io_write_all(made, old, sizeof(*old)))
		return NULL;
	page = mmap(old, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED | (old ? MAP_FIXED : 0), made, 0);
	if (page == MAP_FAILED)
		return NULL;
	*fd = steal_fd(&made);
	return page;
}

/*
 * The last number of the least table of descriptors that the kernel makes, if that is free: a higher one costs every fork another table, as large as the number says. -2: there is no
 * number left.
 */
static int out_of_the_way(int fd)
{
	enum { LAST = 63 };
	int up = next_fcntl(fd, F_DUPFD_CLOEXEC, (void *)(long)LAST);

	if (up > LAST) {
		next_close(up);
		up = next_fcntl(fd, F_DUPFD_CLOEXEC, (void *)(long)WORDS_HIGH);
	}
	return up >= 0 ? up : -2;
}

/*
 * Before the first fork. Until then nobody shares the page, and its memfd was closed, since a program that never forks should not find a descriptor that it did not open. A program
 * that forks may exec itself afterwards, and must then have something to hand on: so it gets another page, whose memfd stays open, where nobody looks for one. It takes the
 * place of the old one: another thread may be looking at it, and every mapping makes every fork dearer.
 */
static __attribute__((noinline, cold)) void keep_page(void)
{
	int kept = errno, fd;

	if (wiped->pid != getpid()) /* a vfork child: the descriptor would be its own */
		return;
	page_fd = -2; /* tried */
	if (atomic_load(&shared->owner) == wiped->pid && make_page(page_filters, shared, &fd)) {
		page_fd = out_of_the_way(fd);
		next_close(fd);
	}
	errno = kept;
}

int guard_init(int filters)
{
	void *page;
	int fd;

	shared = make_page(filters, NULL, &fd);
	if (!shared)
		return -errno;
	next_close(fd);
	shared->form = FORM;
	shared->since = ticks_now();
	page_filters = filters;
	page = pool_map(WIPED_ROOM);
	if (!page)
		return -ENOMEM;
	if (madvise(page, WIPED_ROOM, MADV_WIPEONFORK))
		return -errno;
	wiped = page;
	*wiped = (struct wiped){.pid = getpid(), .slot = -1, .parent = getppid(), .readable = 1, .owns = true};
	guard_readable = &wiped->readable;
	born_as = wiped->pid;
	atomic_store(&shared->owner, wiped->pid);
	return pthread_atfork(prepare, parent, NULL) ? -ENOMEM : 0;
}
