/* SPDX-License-Identifier: MIT */
/* A restart from request to exec. */
#define _GNU_SOURCE
#include "restart/restart.h"

#include "process/roster.h"
#include "process/task.h"
#include "deliver/queue.h"
#include "drain/drain.h"
#include "restart/backlog.h"
#include "restart/preflight.h"
#include "process/guard.h"
#include "base/io.h"
#include "base/log.h"
#include "process/startup.h"
#include "drain/scm_send.h"
#include "drain/inflight.h"
#include "fd/tagging.h"
#include "restart/drain_owner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { FIRST_STEP_MS = 1, STEP_MS = 5, SLOW_STEP_MS = 20 };

/* Who is held back waits for the next look: it is made soon, while most are still expected to be over with what they do. */
#define FIRST_NS INT64_C(10000000)

/* So long it is looked often: most restarts are over by then. */
#define SOON_NS INT64_C(50000000)

/*
 * So long all may be held back while one is not done. Then they are let go on, and it is tried again: a request that takes seconds may have begun a moment before the freeze, or a client of
 * a protocol without boundaries that we see may never pause. So long before --drain is over, everybody is frozen in any case.
 *
 * That alone would cut requests of a server that all take longer, and of which some are always under way: no such try comes to its end, and the last one least of all. So when half of --drain
 * is over, one is tried for as long as it takes until all are done but those who were at the same request a quarter earlier: a download, a stream. If there are such, the others are let go on once
 * more, and the last freeze comes as early as they then need.
 */
#define HOLD_NS INT64_C(250000000)
#define PAUSE_NS INT64_C(500000000)

/* What is given beyond --drain: to workers, to pass on what they hold; to a thread, to come out of a call. */
#define GOODBYE_NS INT64_C(250000000)
#define INSIDE_NS INT64_C(50000000)

/* For each worker, all this may take so much longer: a thousand of them do not even get a processor in 250 ms. */
#define EACH_NS INT64_C(2000000)

static cpr_large struct {
	struct leave_request request;
	void (*over)(void *arg, int result, const char *why);
	int64_t deadline;
	char path[TAG_NAME_MAX + 1];
	char reason[1024];
} pending;

static atomic_flag taken = ATOMIC_FLAG_INIT;    /* a restart is under way */
static _Atomic bool draining;
static bool awaiting; /* slow requests, and nobody is frozen */
static int64_t frozen_at, again_at;
static enum { SHORT, LONG, LONG_DONE } hold; /* whether the try for as long as it takes is to come, or under way, or made */
static int64_t last_ns;    /* so long before --drain is over the last freeze begins */
static size_t slow_workers; /* at its beginning: who may have such a request */
static bool called;        /* workers were */
static int64_t workers_ns; /* of EACH_NS, for all that were called */
static uint64_t survey; /* the number of the question to workers */

bool restart_under_way(void)
{
	return atomic_load(&draining) || leave_under_way();
}

/* Nobody is held back any more. */
static void thaw(void)
{
	struct guard_hold hold;

	drain_owner_dismiss();
	if (guard_lock(&hold)) {
		deliver_call_off();
		guard_unlock(&hold);
	}
	drain_thaw();
}

static void call_off(int result, const char *why)
{
	drain_owner_survey_over();
	thaw();
	backlog_raise(false);
	atomic_store(&draining, false);
	atomic_flag_clear(&taken);
	if (pending.over)
		pending.over(pending.request.arg, result, why);
}

/* What would fail at the end is better said before connections are ended for it. */
static int foreseen(const struct leave_request *request, struct text *why)
{
	return preflight(request->path ? request->path : cpr__startup.path, why);
}

/*
 * From here on nothing new is begun. The obvious code does this when the restart is asked for, and then one download, or one websocket that never comes to an end, keeps everybody
 * waiting until --drain is over.
 */
static void freeze(void)
{
	awaiting = false;
	frozen_at = io_now();
	drain_owner_survey_over();
	tagging_resolve();
	drain_begin(); /* also where there is no connection to be seen: a thread may stand between the kernel's accept() and our note of it */
	scm_send_look_anew();
	called = false;
	workers_ns = 0;
}

/*
 * How many are not done. They are not called before everything that was given to them is there, and what this process is still busy with, and may give them: one who has passed on what it has
 * would keep what came then. That is waited for as the requests of others are, and until the end is near.
 */
static size_t hear_workers(size_t mine)
{
	bool settled = (!mine || !atomic_load(&scm_send_any)) && scm_send_is_settled();

	if (!called && !settled && io_now() < pending.deadline - GOODBYE_NS)
		return 1;
	if (!called)
		workers_ns = (int64_t)drain_owner_call(pending.deadline) * EACH_NS;
	called = true;
	return drain_owner_collect();
}

static void await(int64_t from)
{
	again_at = from;
	survey++;
	inflight_begin();
	awaiting = true;
}

/* Nobody is held back any more; what was ended stays ended. */
static void let_go_on(void)
{
	thaw();
	await(io_now() + PAUSE_NS);
}

/* `slow`: once it has taken long. */
static int next_look(int64_t since, int slow)
{
	int64_t past = io_now() - since;

	return past < FIRST_NS ? FIRST_STEP_MS : past < SOON_NS ? STEP_MS : slow;
}

static int64_t quarter(void)
{
	return (pending.deadline - pending.request.asked_at) / 4;
}

/* ms until the next look; 0: it is over. */
static int await_slow(void)
{
	int64_t now = io_now(), spent = now - pending.request.asked_at;
	bool must = now >= pending.deadline - last_ns || (hold == SHORT && spent >= 2 * quarter());

	slow_workers = drain_owner_slow(survey);
	if (!must && (now < again_at || inflight_left() + slow_workers > 0))
		return next_look(pending.request.asked_at, SLOW_STEP_MS);
	if (hold == SHORT && spent >= quarter()) /* who is slow has been so since before that */
		hold = LONG;
	freeze();
	return 0;
}

/* Is this try to be given up, with so many connections of this process and so many workers not done? */
static bool is_in_vain(size_t mine, size_t theirs)
{
	int64_t now = io_now(), held = now - frozen_at;
	bool endless = mine && mine == drain_endless() && !theirs; /* nothing is learned by holding the others any longer */

	if (!(mine + theirs) || (held <= HOLD_NS + workers_ns && !(endless && hold == LONG)) ||
	    now >= pending.deadline - last_ns - PAUSE_NS - workers_ns)
		return false;
	if (hold != LONG)
		return true;
	if (!endless && (mine > inflight_left() + drain_endless() || theirs > slow_workers) && (held < quarter() || now >= pending.deadline - held * 2))
		return false;
	hold = LONG_DONE;
	last_ns = held < HOLD_NS ? HOLD_NS : held + held / 2;
	return true;
}

/* ms until the next look; 0: this restart is over. */
static int step(void)
{
	struct text why = TEXT_ON(pending.reason);
	size_t mine, inside, theirs;
	int64_t late;
	int r = awaiting ? await_slow() : 0;

	if (r)
		return r;
	mine = drain_busy();
	inside = drain_call_out();
	theirs = hear_workers(mine);
	late = io_now() - pending.deadline;
	if (is_in_vain(mine, theirs)) {
		let_go_on();
		return SLOW_STEP_MS;
	}
	/* workers stop at the same deadline, and then have to say what they have */
	if ((mine && late < 0) || (inside && late < INSIDE_NS) || (theirs && late < GOODBYE_NS + workers_ns) || !drain_close(late >= 0))
		return next_look(frozen_at, STEP_MS);
	if (theirs)
		log_warn("%zu workers have not passed on in time what they hold: it ends with them", theirs);
	r = foreseen(&pending.request, &why); /* once more: it has been a while */
	if (!r)
		r = leave_restart(&pending.request, &why);
	call_off(r, pending.reason);
	return 0;
}

/* The errand. */
static int look(void)
{
	return atomic_load(&draining) && roster_owner() == getpid() ? step() : 0;
}

void restart_init(void)
{
	task_adds(look);
}

int restart_begin(const struct leave_request *request, void (*over)(void *arg, int result, const char *why), struct text *why)
{
	int r;

	if (atomic_flag_test_and_set(&taken))
		return -EBUSY;
	r = foreseen(request, why);
	if (r) {
		atomic_flag_clear(&taken);
		return r;
	}
	pending.request = *request;
	pending.over = over;
	pending.deadline = request->asked_at + cpr__settings.drain_s * INT64_C(1000000000);
	if (request->path) {
		memcpy(pending.path, request->path, strnlen(request->path, TAG_NAME_MAX) + 1);
		pending.request.path = pending.path;
	}
	tagging_resolve();
	backlog_raise(true);
	survey = (uint64_t)request->asked_at; /* a number that no worker has heard before, also if it was asked by an image before this one */
	hold = SHORT;
	last_ns = HOLD_NS;
	await(0);
	atomic_store(&draining, true);
	return 0;
}
