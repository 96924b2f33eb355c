/* SPDX-License-Identifier: MIT */
/* Owners and workers. */
#define _GNU_SOURCE
#include "process/roster.h"

#include "base/log.h"
#include "base/next.h"
#include "process/birth.h"
#include "process/guard.h"
#include "process/procinfo.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* What a child must not have of its parent's: cleared in it. */
static cpr_touched struct own {
	int place;   /* of the worker, + 1; 0: none */
	int claimer; /* its number among those who claim, from 1 on; 0: none yet */
	bool owns;   /* it is the owner, and so counts its forks here, not in the shared page: each page that a process touches after a fork costs it a little */
	struct page_forks forks;
} *own;

/* Clock ticks since boot, as start times are told. */
__attribute__((hot)) static uint64_t ticks_now(void)
{
	struct timespec now = {0};

	next_sys(SYS_clock_gettime, CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 100 + (uint64_t)now.tv_nsec / 10000000;
}

/* Which child takes which place: all of the first ones stand together. */
enum { FIRST_PLACES = 128 };

/* Places of the dead are free: most children end without a word. */
static bool is_taken(int pid)
{
	int saved_errno = errno;
	bool taken = kill(pid, 0) == 0 || errno != ESRCH;

	errno = saved_errno;
	return taken;
}

static int place_of(int pid)
{
	int top = atomic_load(&page_shared->top);

	for (int slot = 0; slot < top && slot < ROSTER_MAX; slot++)
		if (atomic_load(&page_shared->worker[slot].pid) == pid)
			return slot;
	return -1;
}

static void claim_place(int slot, int parent)
{
	int top = atomic_load(&page_shared->top);

	while (top <= slot && !atomic_compare_exchange_weak(&page_shared->top, &top, slot + 1))
		;
	atomic_store(&page_shared->worker[slot].parent, parent);
	page_shared->worker[slot].entered = ticks_now();
	atomic_store(&page_shared->worker[slot].gated, 0);
	atomic_store(&page_shared->worker[slot].calm, atomic_load(&page_shared->drain.survey)); /* what was slow when that was asked cannot be its */
}

/* The place of a process: its own if it has one (or one of its pid, who is dead). -1: there is none left. */
static int enter_worker(int pid, int parent)
{
	int known = place_of(pid);

	for (int i = 0; i < ROSTER_MAX; i++) {
		int slot = known >= 0 ? known : i < FIRST_PLACES ? (pid + i) % FIRST_PLACES : i, there = atomic_load(&page_shared->worker[slot].pid);

		if (there && there != pid && is_taken(there))
			continue;
		if (!atomic_compare_exchange_strong(&page_shared->worker[slot].pid, &there, pid))
			continue;
		claim_place(slot, parent);
		return slot;
	}
	log_warn("more than %d processes forked: process %d will not be told of a restart", (int)ROSTER_MAX, pid);
	return -1;
}

uint64_t roster_start_time(int pid)
{
	struct procinfo proc;

	return procinfo_look(pid, &proc) && !proc.dead ? proc.start_time : 0;
}

int64_t roster_cpu_time(int pid)
{
	struct timespec used = {0};
	clockid_t clock;

	if (!clock_getcpuclockid(pid, &clock))
		clock_gettime(clock, &used);
	return used.tv_sec * INT64_C(1000000000) + used.tv_nsec;
}

static bool is_gone(int pid)
{
	int saved_errno = errno;
	bool gone = kill(pid, 0) && errno == ESRCH;

	gone = gone || (!roster_start_time(pid) && roster_start_time(getpid())); /* without /proc nobody can tell a zombie */
	errno = saved_errno;
	return gone;
}

/* Is it in the middle of an exec, or by now another program? */
static bool is_leaving(int pid, uint64_t start_time)
{
	int place = pid % PAGE_LEAVING;

	return atomic_load(&page_shared->leaving[place].pid) == pid && start_time <= atomic_load(&page_shared->leaving[place].at);
}

void roster_await_exec(int pid)
{
	struct timespec ms = {0, 1000000};
	struct procinfo proc;

	for (int i = 0; page_shared && i < 20 && procinfo_look(pid, &proc) && !proc.dead && procinfo_is_forked(proc.flags) && is_leaving(pid, proc.start_time); i++)
		next_sys(SYS_nanosleep, &ms, NULL);
}

__attribute__((hot)) static void note_leaving(int me)
{
	int place = me % PAGE_LEAVING;

	atomic_store(&page_shared->leaving[place].at, ticks_now());
	atomic_store(&page_shared->leaving[place].pid, me);
}

/*
 * A live worker of ours? The page is written by workers, who may have less rights than the owner, and a pid is given out again: before anything is sent to one, it
 * must have been there when it was entered, and descend from the owner; and not have exec'ed since, by whatever call.
 */
static bool is_worker(int slot, int owner)
{
	int pid = atomic_load(&page_shared->worker[slot].pid), there = pid;
	struct procinfo proc;

	if (pid <= 1 || pid == owner || !procinfo_look(pid, &proc) || proc.dead || proc.start_time > page_shared->worker[slot].entered + 1 || is_leaving(pid, proc.start_time))
		return false;
	if (proc.flags && !procinfo_is_forked(proc.flags)) {
		atomic_compare_exchange_strong(&page_shared->worker[slot].pid, &there, 0);
		return false;
	}
	for (int depth = 0; depth < 16 && proc.parent > 1; depth++) {
		if (proc.parent == owner)
			return true;
		if (!procinfo_look(proc.parent, &proc))
			break;
	}
	return false;
}

int roster_owner(void)
{
	return page_shared ? atomic_load(&page_shared->owner) : 0;
}

__attribute__((hot)) bool roster_elect(void)
{
	int owner, me = getpid();

	if (!page_shared)
		return false;
	owner = atomic_load(&page_shared->owner);
	if (me != birth_known_as && owner != me && getppid() == birth_known_as) /* a child that has not asked for anything yet, and most likely is about to exec */
		return false;
	if (!birth_own_memory())
		return false;
	if (owner == me)
		return true;
	if (getppid() == birth_self->parent || !is_gone(owner))
		return false;
	if (!atomic_compare_exchange_strong(&page_shared->owner, &owner, me))
		return false;
	own->owns = !atomic_load(&page_shared->forks.unborn); /* a fork that is under way, maybe beneath this very handler, is to be counted where it began */
	if (own->place)
		atomic_store(&page_shared->worker[own->place - 1].pid, 0);
	log_info("the starting process %d is gone: this one is the owner now", owner);
	return true;
}

static bool any_unborn(void)
{
	return atomic_load(&page_shared->forks.unborn) > 0 || atomic_load(&own->forks.unborn) > 0;
}

/* Forks that are under way are waited for, 100 ms at most (one whose process has died meanwhile would never be over). False: one still is. */
static bool await_births(void)
{
	struct timespec ms = {0, 1000000};
	int unborn;

	for (int i = 0; i < 100 && any_unborn(); i++)
		next_sys(SYS_nanosleep, &ms, NULL);
	unborn = atomic_load(&page_shared->forks.unborn);
	if (unborn)
		atomic_compare_exchange_strong(&page_shared->forks.unborn, &unborn, 0);
	return !any_unborn();
}

static bool (*is_stranger)(int pid);

void roster_when_stranger(bool (*is)(int pid))
{
	is_stranger = is;
}

static enum procinfo_known what_is(int pid, uint64_t start_time)
{
	if (is_leaving(pid, start_time) || (start_time == page_shared->since && is_stranger && is_stranger(pid)))
		return PROCINFO_STRANGE;
	return roster_is_worker(pid) ? PROCINFO_KNOWN : PROCINFO_NEW;
}

static void enter_found(int pid, int parent)
{
	enter_worker(pid, parent);
}

unsigned roster_births(void)
{
	return page_shared ? atomic_load(&page_shared->forks.births) + atomic_load(&own->forks.births) : 0;
}

static _Atomic bool look_anyway;

void roster_look_anyway(void)
{
	atomic_store(&look_anyway, true);
}

/* Workers that were forked and have not asked for anything since: most have nothing to do with us until they are told of a restart. */
static void enter_forked(void)
{
	static atomic_flag looking = ATOMIC_FLAG_INIT;
	static unsigned seen;
	unsigned births = roster_births();
	bool all_born;

	if ((births == seen && !atomic_load(&look_anyway)) || atomic_flag_test_and_set(&looking))
		return;
	atomic_store(&look_anyway, false);
	all_born = await_births();
	if (procinfo_find_forked(roster_owner(), page_shared->since, cpr__settings.signal, what_is, enter_found) && all_born)
		seen = births;
	atomic_flag_clear(&looking);
}

bool roster_is_worker(int pid)
{
	return page_shared && place_of(pid) >= 0;
}

size_t roster_workers(int *pids, size_t most)
{
	size_t n = 0;

	if (!page_shared)
		return 0;
	enter_forked();
	for (int i = 0; i < atomic_load(&page_shared->top) && n < most; i++)
		if (atomic_load(&page_shared->worker[i].pid) && is_worker(i, roster_owner()))
			pids[n++] = atomic_load(&page_shared->worker[i].pid);
	return n;
}

size_t roster_worker_count(void)
{
	size_t n = 0;

	if (!page_shared)
		return 0;
	enter_forked();
	for (int i = 0; i < atomic_load(&page_shared->top); i++)
		n += atomic_load(&page_shared->worker[i].pid) && is_worker(i, roster_owner());
	return n;
}

int roster_claimer(void)
{
	if (!own->claimer)
		own->claimer = atomic_fetch_add(&page_shared->claimers, 1) + 1;
	return own->claimer - 1;
}

void roster_claimed(void)
{
	atomic_fetch_add(&page_shared->claims, 1);
}

int roster_claims(void)
{
	return page_shared ? atomic_load(&page_shared->claims) : 0;
}

void roster_worker_calm(uint64_t survey)
{
	if (birth_own_memory() && own->place)
		atomic_store(&page_shared->worker[own->place - 1].calm, survey);
}

void roster_worker_gated(uint64_t wish)
{
	if (birth_own_memory() && own->place)
		atomic_store(&page_shared->worker[own->place - 1].gated, wish);
}

static bool has_said(int i, uint64_t number, bool gated)
{
	return atomic_load(gated ? &page_shared->worker[i].gated : &page_shared->worker[i].calm) == number;
}

static size_t not_said(uint64_t number, bool gated, bool ring)
{
	size_t n = 0;

	if (!page_shared)
		return 0;
	enter_forked();
	for (int i = 0; i < atomic_load(&page_shared->top); i++) {
		int pid = atomic_load(&page_shared->worker[i].pid);

		if (!pid || has_said(i, number, gated) || !is_worker(i, roster_owner()))
			continue;
		if (ring)
			kill(pid, cpr__settings.signal);
		n++;
	}
	return n;
}

size_t roster_workers_not_calm(uint64_t survey, bool ring)
{
	return not_said(survey, false, ring);
}

size_t roster_workers_not_gated(uint64_t wish, bool ring)
{
	return not_said(wish, true, ring);
}

bool roster_has_workers(void)
{
	return page_shared && (any_unborn() || roster_worker_count());
}

__attribute__((hot)) void roster_worker_leaves(void)
{
	int me = getpid();

	if (!page_shared)
		return;
	note_leaving(me);
	if (me == birth_known_as && birth_own_memory() && own->place) /* else a child that has not asked for anything, or a vfork child */
		atomic_store(&page_shared->worker[own->place - 1].pid, 0);
}

void roster_worker_stays(void)
{
	int me = getpid(), left = me, free = 0;

	if (!page_shared)
		return;
	atomic_compare_exchange_strong(&page_shared->leaving[me % PAGE_LEAVING].pid, &left, 0);
	if (me == birth_known_as && birth_own_memory() && own->place && !atomic_compare_exchange_strong(&page_shared->worker[own->place - 1].pid, &free, me))
		own->place = enter_worker(me, birth_self->parent) + 1;
}

/* ---- forks ---- */

static inline struct page_forks *forks(void)
{
	return likely(own->owns) ? &own->forks : &page_shared->forks;
}

static __attribute__((hot)) void before_fork(void)
{
	atomic_fetch_add(&forks()->unborn, 1);
	atomic_fetch_add(&forks()->births, 1);
}

static __attribute__((hot)) void after_fork(void)
{
	atomic_fetch_sub(&forks()->unborn, 1);
}

static void when_born(void)
{
	own->place = enter_worker(getpid(), birth_self->parent) + 1;
}

int roster_init(void)
{
	own = birth_cleared(sizeof(*own));
	if (!own)
		return -ENOMEM;
	own->owns = true;
	page_shared->since = ticks_now();
	atomic_store(&page_shared->owner, getpid());
	birth_around_fork(before_fork, after_fork);
	birth_when_born(when_born);
	return 0;
}
