/* SPDX-License-Identifier: MIT */
/* Readiness, and the answer to the caller that asked for the restart. */
#define _GNU_SOURCE
#include "restart/ready.h"

#include "base/io.h"
#include "base/log.h"
#include "fd/pending.h"
#include "model/protocol.h"
#include "process/caller.h"
#include "process/children.h"
#include "process/guard.h"
#include "process/roster.h"
#include "restart/awaited.h"
#include "restart/generation.h"
#include "restart/grace.h"
#include "restart/retire.h"
#include "restart/surplus.h"

#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#define MS INT64_C(1000000)

enum {
	/*
	 * Taken for ready after that: it waits for work, but has not asked for everything; or it has everything, but
	 * was never seen to wait. The second limit was 500 ms, and a JVM took longer. Its next restart was let in too
	 * soon, and a client waited 11 s through several.
	 */
	TAKEN_MS = 2000,
	FEWER_MS = 100,
	/*
	 * One that was given nothing and has bound nothing rests, if one of its waits is that long and is for no
	 * answer: a worker does that. A start is busy meanwhile: node has a thread that waits from the first moment on,
	 * and reads the program in another.
	 */
	REST_MS = 500,
	BUSY_MS = 50,
};

static struct {
	uint64_t nonce; /* the caller's; 0: none */
	int64_t asked_at, drained_at, left_at;
	int64_t waited_at, claimed_at; /* when it was first seen to wait; to have claimed everything */
	int64_t ready_at, took_us;
	uint32_t cut, carried, closed;
	size_t handed; /* what was there to be claimed */
	int64_t rests_since, rested_cpu;
	bool asks; /* its last waits were for an answer: however late that comes, nothing is bound before it */
	_Atomic bool reached;
} ready;

void ready_await(const struct state *state)
{
	/* a supervisor also waits for the first generation */
	ready.nonce = state->generation ? state->nonce : cpr__settings.supervisor_nonce;
	ready.asked_at = state->asked_at;
	ready.drained_at = state->drained_at;
	ready.left_at = state->left_at;
	ready.cut = state->cut;
	ready.carried = state->carried;
	ready.closed = state->closed;
	ready.handed = grace_unclaimed();
	atomic_store(&ready.reached, !state->generation && !ready.nonce);
}

void ready_hand_on(struct state *state)
{
	if (ready_reached())
		return;
	state->nonce = ready.nonce;
	state->asked_at = ready.asked_at;
	state->drained_at = ready.drained_at;
	state->cut = ready.cut;
	state->carried = ready.carried;
	state->closed = ready.closed;
}

bool ready_reached(void)
{
	return atomic_load(&ready.reached);
}

int64_t ready_at(void)
{
	return ready.ready_at;
}

bool ready_is_awaited(void)
{
	return ready.nonce && !ready_reached();
}

struct ready_last ready_last(void)
{
	return (struct ready_last){ready.took_us, (ready.drained_at - ready.asked_at) / 1000, ready.carried,
				   ready.closed, ready.cut};
}

static void put_orphans(struct text *t)
{
	struct guard_hold hold;

	if (roster_claims() || !guard_lock(&hold)) /* workers claimed them: which ones, only they know */
		return;
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (grace_is_unclaimed(e) && t->used < t->size / 2) {
			text_format(t,
				    "warning=%s/%d is not asked for by this generation, and will be closed %d s after "
				    "its start",
				    e->name, e->id, cpr__settings.grace_s);
			text_add(t, "\n");
		}
	guard_unlock(&hold);
}

static size_t kept_count(void)
{
	struct guard_hold hold;
	size_t n = 0;

	if (!guard_lock(&hold))
		return 0;
	pending_resolve_all();
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e))
		n += e->flags & ENTRY_KEPT && !(e->flags & ENTRY_ORPHAN);
	guard_unlock(&hold);
	return n;
}

static void report(size_t orphans, bool taken)
{
	static cpr_large char answer[2048]; /* it is said once */
	struct text t = TEXT_ON(answer);

	if (!ready.nonce)
		return;
	protocol_put(&t, "result", "ready");
	protocol_put_int(&t, "pid", getpid());
	protocol_put_int(&t, "generation", generation_number());
	protocol_put_int(&t, "descriptors", (int64_t)kept_count());
	protocol_put_int(&t, "carried", ready.carried);
	protocol_put_int(&t, "closed", ready.closed);
	protocol_put_int(&t, "cut", ready.cut);
	protocol_put_int(&t, "orphans", (int64_t)orphans);
	protocol_put_int(&t, "drain_us", (ready.drained_at - ready.asked_at) / 1000);
	protocol_put_int(&t, "leave_us", (ready.left_at - ready.drained_at) / 1000);
	protocol_put_int(&t, "exec_us", (generation_started_at() - ready.left_at) / 1000);
	protocol_put_int(&t, "ready_us", ready.took_us);
	if (taken)
		text_format(&t, "warning=taken for ready after %d s: it was not seen to wait for work%s\n",
			    (int)((ready.ready_at - generation_started_at()) / (1000 * MS)),
			    orphans ? " with all that was kept for it" : "");
	put_orphans(&t);
	children_warn(&t);
	caller_report(ready.nonce, answer, t.used);
}

/* `taken`: by a time limit, and not by what the program does. */
static void become_ready(size_t orphans, bool taken)
{
	if (atomic_exchange(&ready.reached, true))
		return;
	ready.ready_at = io_now();
	ready.took_us = (ready.ready_at - (ready.asked_at ? ready.asked_at : generation_started_at())) / 1000;
	report(orphans, taken);
	retire_tell_soon(ready.ready_at);
	log_info("generation %d is ready after %lld ms", generation_number(), (long long)ready.took_us / 1000);
}

/* How many that the last generation left have not been asked for. Each worker has a copy of each. */
static size_t unclaimed(void)
{
	size_t left = grace_unclaimed(), theirs = (size_t)roster_claims();

	return left > theirs ? left - theirs : 0;
}

/*
 * Behind its gate, a generation that has claimed nothing is not ready, however long it takes: the old one serves
 * meanwhile, and the supervisor sets the limit.
 */
static bool has_nothing_yet(size_t left)
{
	return cpr__settings.gated && ready.handed && left >= ready.handed;
}

/* By a limit, where the program does not show it. Behind its gate it is the supervisor that sets the last one. */
static bool ready_is_taken(size_t left, int64_t now)
{
	int64_t since = left ? ready.waited_at : ready.claimed_at;

	return (since && now - since > TAKEN_MS * MS) ||
	       (!cpr__settings.gated && now - generation_started_at() > cpr__settings.ready_timeout_s * 1000 * MS);
}

/*
 * Are only listeners of groups left of which the program needs fewer now? A thread that waits may be the first of
 * several with a listener each: the others get a moment.
 */
static bool wants_fewer(size_t left, int64_t now)
{
	return left && ready.waited_at && now - ready.waited_at > FEWER_MS * MS && left == surplus_count() &&
	       !roster_claims();
}

/* Nothing was left for it, and it has bound nothing: it is at its start, or it is no server. */
static bool is_bare(void)
{
	struct guard_hold hold;
	bool bound = false;

	if (ready.handed || !guard_lock(&hold))
		return false;
	pending_resolve_all();
	for (const struct entry *e = table_first(cpr__table); e && !bound; e = table_after(e))
		bound = e->kind == ENTRY_STREAM ? e->flags & ENTRY_LISTENING
						: e->kind == ENTRY_DATAGRAM || e->kind == ENTRY_FIFO;
	guard_unlock(&hold);
	return !bound;
}

/* One wait for all that long, and next to no work. */
static bool rests(unsigned awaited, bool still, int64_t now)
{
	struct timespec time = {0};
	int64_t cpu;

	if (awaited)
		ready.asks = awaited & AWAITED_ANSWER;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	cpu = time.tv_sec * 1000 * MS + time.tv_nsec;
	if (!still || ready.asks || !ready.rests_since || cpu - ready.rested_cpu > BUSY_MS * MS) {
		ready.rests_since = now;
		ready.rested_cpu = cpu;
	}
	return now - ready.rests_since > REST_MS * MS;
}

/* Is one of these waits readiness? One for an answer is not, and one for itself is not before something is bound. */
static bool waits_for_work(unsigned awaited)
{
	return awaited & AWAITED_WORK || (awaited & AWAITED_ITSELF && !is_bare());
}

/* With everything claimed, a wait for work is readiness; the rest is for programs of which the library sees less. */
void ready_look(unsigned awaited, bool still)
{
	int64_t now = io_now();
	size_t left;
	bool waits;

	if (ready_reached())
		return;
	waits = waits_for_work(awaited);
	left = unclaimed();
	if (!left && !ready.claimed_at)
		ready.claimed_at = now;
	if (waits && !ready.waited_at)
		ready.waited_at = now;
	if (has_nothing_yet(left))
		return;
	if (!left &&
	    (waits || (ready.waited_at && roster_claims()))) /* a master waits before its workers have claimed */
		become_ready(0, false);
	else if (rests(awaited, still, now) && is_bare())
		become_ready(0, false);
	else if (wants_fewer(left, now))
		become_ready(0, false);
	else if (ready_is_taken(left, now))
		become_ready(left, true);
}
