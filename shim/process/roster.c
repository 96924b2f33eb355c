/* SPDX-License-Identifier: MIT */
/* Owners and workers. */
#define _GNU_SOURCE
#include "process/roster.h"

#include "base/full.h"
#include "base/io.h"
#include "base/log.h"
#include "base/next.h"
#include "base/raw.h"
#include "process/birth.h"
#include "process/forks.h"
#include "process/guard.h"
#include "process/leaving.h"
#include "process/procinfo.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* What a child must not have of its parent's: cleared in it. */
static cpr_touched struct own {
	int place;   /* of the worker, + 1; 0: none */
	int claimer; /* its number among those that claim, from 1 on; 0: none yet */
	int owner;   /* its pid, if it is the owner: what stands in the page is for its workers */
	size_t member_count;
	unsigned seen; /* forks, when all workers were entered */
	uint64_t gated_since; /* the owner's: clock ticks since boot; 0: nothing was wanted of a gate yet */
} *own;

static cpr_touched int last_owner; /* as it was when this process was forked, or as it has found since */
static _Atomic bool looking;        /* at the members */
static bool inherited;             /* the page is the last image's */
static uint64_t since;             /* clock ticks since boot: what was there before is no worker */

/*
 * Workers that this process has seen. Workers write into the page, and may have fewer rights than the owner. So an
 * entry in the page is a hint, and the owner checks each one. A worker that was seen counts until it ends, whatever the
 * page says.
 */
static cpr_large struct member {
	int pid;
	uint64_t start_time;
	int64_t leaves_since; /* CLOCK_MONOTONIC, ns: it is about to exec, as the page says; 0: it is not */
	uint64_t calm, gated; /* the page's, when it was seen last */
	bool gone;            /* it has ended: connections that it passed on before still count */
} members[ROSTER_MAX];

/* Clock ticks since boot, like start times. */
__attribute__((hot)) static uint64_t ticks_now(void)
{
	struct timespec now = {0};

	next_sys(SYS_clock_gettime, CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 100 + (uint64_t)now.tv_nsec / 10000000;
}

enum {
	LEAVES_MS = 500,
	CLAIMS_MAX = (1 << 20) - 1, /* of what stands in the page */
};

/* ---- which processes are workers ---- */

static struct member *member_of(int pid)
{
	for (size_t i = 0; i < own->member_count; i++)
		if (members[i].pid == pid)
			return &members[i];
	return NULL;
}

static struct member *add_member(int pid, uint64_t start_time)
{
	struct member *m = member_of(pid);

	if (!m && own->member_count == ROSTER_MAX) {
		full_note(FULL_MEMBERS, ROSTER_MAX);
		return NULL;
	}
	if (!m)
		m = &members[own->member_count++];
	if (m->pid != pid || m->start_time != start_time)
		*m = (struct member){.pid = pid, .start_time = start_time};
	return m;
}

/* Dead workers stay in the list while a drain may still read what they sent. */
static void forget_gone(void)
{
	size_t left = 0;

	for (size_t i = 0; i < own->member_count; i++)
		if (members[i].pid && !members[i].gone)
			members[left++] = members[i];
	own->member_count = left;
}

/* /proc says nothing of it. It is a child of this process's, and lives; of an exec it has told by itself. */
static bool is_hidden_child(int pid)
{
	siginfo_t info = {0};

	return !raw_waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) && !info.si_pid;
}

/*
 * Is the process in this place a live worker of ours? Pids are reused: before a signal is sent to one, it must have
 * existed when it was entered, and descend from the owner. It must not have exec'ed since, by whatever call. The pid is
 * read once: a worker may write another one a moment later.
 */
static struct member *look_at_place(int slot, int owner)
{
	int pid = atomic_load(&page_shared->worker[slot].pid), there = pid;
	struct procinfo proc;

	if (pid <= 1 || pid == owner)
		return NULL;
	if (!procinfo_look(pid, &proc))
		return is_hidden_child(pid) ? add_member(pid, PROCINFO_HIDDEN) : NULL;
	if (proc.dead || proc.start_time > page_shared->worker[slot].entered + 1)
		return NULL;
	if (proc.flags && !procinfo_is_forked(proc.flags)) {
		atomic_compare_exchange_strong(&page_shared->worker[slot].pid, &there, 0);
		return NULL;
	}
	return procinfo_descends(pid, owner) ? add_member(pid, proc.start_time) : NULL;
}

static void read_words(struct member *m, int slot)
{
	m->calm = atomic_load(&page_shared->worker[slot].calm);
	m->gated = atomic_load(&page_shared->worker[slot].gated);
}

static void look_at_page(void)
{
	int owner = roster_owner(), top = atomic_load(&page_shared->top);

	for (int slot = 0; slot < top && slot < ROSTER_MAX; slot++) {
		int pid = atomic_load(&page_shared->worker[slot].pid);
		struct member *m = pid ? member_of(pid) : NULL;

		if (pid && (!m || m->gone))
			m = look_at_place(slot, owner);
		if (m)
			read_words(m, slot);
	}
}

/* It may say so for good, and never do it: then it is a worker all the same. */
static bool is_about_to_exec(struct member *m)
{
	if (!leaving_is(m->pid, m->start_time)) {
		m->leaves_since = 0;
		return false;
	}
	m->leaves_since = m->leaves_since ? m->leaves_since : io_now();
	return io_now() - m->leaves_since < LEAVES_MS * INT64_C(1000000);
}

static bool is_there(struct member *m)
{
	struct procinfo proc;
	bool hidden = m->start_time == PROCINFO_HIDDEN, found;

	if (!m->pid || m->gone || is_about_to_exec(m))
		return false;
	found = hidden ? is_hidden_child(m->pid) : procinfo_look(m->pid, &proc) && !proc.dead;
	if (!found)
		m->gone = true;
	else if (hidden ? page_place_of(m->pid) < 0
			: proc.start_time != m->start_time || (proc.flags && !procinfo_is_forked(proc.flags)))
		m->pid = 0; /* another program */
	return found && m->pid;
}

/* ---- which process is the owner ---- */

/* A worker may write any pid into the page: it counts only when the known owner is gone. */
int roster_owner(void)
{
	int there;

	if (!page_shared)
		return 0;
	if (own->owner)
		return own->owner;
	there = atomic_load(&page_shared->owner);
	if (there != last_owner && procinfo_is_gone(last_owner))
		last_owner = there;
	return last_owner;
}

static bool take_over(int owner, int me)
{
	int there = atomic_load(&page_shared->owner);

	/* another child of it may have been quicker */
	if ((there != owner && !procinfo_is_gone(there)) ||
	    !atomic_compare_exchange_strong(&page_shared->owner, &there, me))
		return false;
	last_owner = own->owner = me;
	forks_of_owner();
	if (own->place)
		atomic_store(&page_shared->worker[own->place - 1].pid, 0);
	log_info("the starting process %d is gone: this one is the owner now", owner);
	return true;
}

__attribute__((hot)) bool roster_elect(void)
{
	int owner, me = getpid();

	if (!page_shared)
		return false;
	if (own->owner == me)
		return true;
	if (me != birth_known_as &&
	    getppid() ==
		    birth_known_as) /* a child that has not asked for anything yet, and most likely is about to exec */
		return false;
	if (!birth_own_memory() || getppid() == birth_self->parent)
		return false;
	if (atomic_load(&page_shared->drain.nonce) == PAGE_GONE) /* what is left of its generation is to leave */
		return false;
	owner = roster_owner();
	return procinfo_is_gone(owner) && take_over(owner, me);
}

/* ---- workers that never reported ---- */

static bool (*is_stranger)(int pid);

void roster_when_stranger(bool (*is)(int pid))
{
	is_stranger = is;
}

static enum procinfo_known what_is(int pid, uint64_t start_time)
{
	struct member *m = member_of(pid);

	if (m && m->start_time == start_time && !m->gone)
		return is_about_to_exec(m) ? PROCINFO_STRANGE : PROCINFO_KNOWN;
	if (leaving_is(pid, start_time) || (start_time == since && is_stranger && is_stranger(pid)))
		return PROCINFO_STRANGE;
	return PROCINFO_NEW;
}

static void enter_found(int pid, int parent)
{
	struct procinfo proc;
	struct member *m;
	int slot;

	if (page_place_of(pid) < 0)
		page_enter(pid, parent, ticks_now());
	m = procinfo_look(pid, &proc) ? add_member(pid, proc.start_time) : NULL;
	slot = page_place_of(pid);
	if (m && slot >= 0)
		read_words(m, slot);
}

static _Atomic bool look_anyway;

void roster_look_anyway(void)
{
	atomic_store(&look_anyway, true);
}

/*
 * Enters workers that were forked and have not called into the library since: most never do before a restart rings
 * them.
 */
static void enter_forked(void)
{
	unsigned births = forks_births();
	bool anyway = atomic_exchange(&look_anyway, false), all_born;

	if (anyway)
		forget_gone();
	else if (births == own->seen)
		return;
	all_born = forks_await();
	if (procinfo_find_forked(roster_owner(), since, cpr__settings.signal, what_is, enter_found) && all_born)
		own->seen = births;
}

/*
 * One thread at a time looks, with its signals blocked: its handlers may want to look. Beneath the guard, if that is
 * held; nothing here takes it. Longer than 1 s no look takes: the thread may be one of this process's parent.
 */
static void lock(sigset_t *before)
{
	struct timespec turn = {0, 100000};

	guard_block(before);
	for (int i = 0; i < 10000 && atomic_exchange(&looking, true); i++)
		next_sys(SYS_nanosleep, &turn, NULL);
}

static void unlock(const sigset_t *before)
{
	atomic_store(&looking, false);
	guard_unblock(before);
}

static void roster_look(void)
{
	look_at_page();
	enter_forked();
}

bool roster_is_worker(int pid)
{
	sigset_t before;
	struct member *m;
	bool is;

	if (!page_shared || pid <= 1)
		return false;
	lock(&before);
	m = member_of(pid);
	if (!m) {
		roster_look();
		m = member_of(pid);
	}
	is = m && (is_there(m) || m->gone);
	unlock(&before);
	return is;
}

size_t roster_workers(int *pids, size_t most)
{
	sigset_t before;
	size_t n = 0;

	if (!page_shared)
		return 0;
	lock(&before);
	roster_look();
	for (size_t i = 0; i < own->member_count && n < most; i++)
		if (is_there(&members[i])) {
			if (pids)
				pids[n] = members[i].pid;
			n++;
		}
	unlock(&before);
	return n;
}

size_t roster_worker_count(void)
{
	return roster_workers(NULL, SIZE_MAX);
}

int roster_claimer(void)
{
	if (!own->claimer)
		own->claimer = (atomic_fetch_add(&page_shared->claimers, 1) & CLAIMS_MAX) + 1;
	return own->claimer - 1;
}

void roster_claimed(void)
{
	atomic_fetch_add(&page_shared->claims, 1);
}

int roster_claims(void)
{
	return page_shared ? atomic_load(&page_shared->claims) & CLAIMS_MAX : 0;
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

void roster_owner_gated(void)
{
	own->gated_since = ticks_now();
}

/*
 * A stopped worker takes nothing now, and its pending ring is the first thing that it handles when it continues. A
 * worker that the owner has forked since has the owner's state. A server that forks for each client always had some
 * that were not rung yet, and its handovers were called off for that.
 */
static bool needs_no_ring(const struct member *m)
{
	struct procinfo proc;

	return procinfo_look(m->pid, &proc) &&
	       (proc.stopped ||
		(own->gated_since && proc.start_time > own->gated_since && proc.parent == getpid()));
}

static size_t not_said(uint64_t number, bool gated, bool ring)
{
	sigset_t before;
	size_t n = 0;

	if (!page_shared)
		return 0;
	lock(&before);
	roster_look();
	for (size_t i = 0; i < own->member_count; i++) {
		if ((gated ? members[i].gated : members[i].calm) == number || !is_there(&members[i]))
			continue;
		if (ring)
			kill(members[i].pid, cpr__settings.signal);
		n += !gated || !needs_no_ring(&members[i]);
	}
	unlock(&before);
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
	return page_shared && (forks_under_way() || roster_worker_count());
}

__attribute__((hot)) void roster_worker_leaves(void)
{
	int me = getpid();

	if (!page_shared)
		return;
	leaving_begin(me, ticks_now());
	if (me == birth_known_as && birth_own_memory() &&
	    own->place) /* else a child that has not asked for anything, or a vfork child */
		atomic_store(&page_shared->worker[own->place - 1].pid, 0);
}

void roster_worker_stays(void)
{
	int me = getpid(), free = 0;

	if (!page_shared)
		return;
	leaving_call_off(me);
	if (me == birth_known_as && birth_own_memory() && own->place &&
	    !atomic_compare_exchange_strong(&page_shared->worker[own->place - 1].pid, &free, me))
		own->place = page_enter(me, birth_self->parent, ticks_now()) + 1;
}

/* ---- begin ---- */

static void roster_when_born(void)
{
	atomic_store(&looking, false);
	own->place = page_enter(getpid(), birth_self->parent, ticks_now()) + 1;
}

int roster_init(void)
{
	own = birth_cleared(sizeof(*own));
	if (!own)
		return -ENOMEM;
	own->owner = last_owner = getpid();
	since = page_shared->since = ticks_now();
	atomic_store(&page_shared->owner, getpid());
	birth_when_born(roster_when_born);
	return 0;
}

void roster_inherit(int fd, uint64_t ino)
{
	inherited = page_inherit(fd, ino);
	if (inherited && page_shared->since < since)
		since = page_shared->since;
}

bool roster_is_inherited(void)
{
	return inherited;
}
