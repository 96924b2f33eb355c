/* SPDX-License-Identifier: MIT */
/* A restart from request to exec. */
#define _GNU_SOURCE
#include "restart/restart.h"

#include "model/drain_plan.h"
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

/* The restart that is under way. */
static cpr_large struct {
	struct leave_request request;
	void (*over)(void *arg, int result, const char *why);
	struct drain_plan plan;
	uint64_t survey;      /* the number of the question to workers whether they have slow requests */
	bool workers_told;    /* to drain, in this try */
	char path[TAG_NAME_MAX + 1];
	char reason[1024];
} restart;

static atomic_flag taken = ATOMIC_FLAG_INIT; /* a restart is under way */
static _Atomic bool draining;

bool restart_under_way(void)
{
	return atomic_load(&draining) || leave_under_way();
}

/* What would fail at the end is better said before connections are ended for it. */
static int foreseen(const struct leave_request *request, struct text *why)
{
	return preflight(request->path ? request->path : cpr__startup.path, why);
}

/* ---- the steps of a drain ---- */

/*
 * From here on no request begins. The obvious code freezes when the restart is requested. Then one download, or one
 * WebSocket that never ends, makes every client wait until --drain is over.
 */
static void restart_freeze(void)
{
	drain_owner_survey_over();
	tagging_resolve();
	/*
	 * also where there is no connection to be seen: a thread may stand between the kernel's accept() and our note
	 * of it
	 */
	drain_begin();
	scm_send_look_anew();
	restart.workers_told = false;
}

/* No connection is held back any more. */
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

/* What was ended stays ended. */
static void await_slow(void)
{
	restart.survey++;
	inflight_begin();
}

static void call_off(int result, const char *why)
{
	drain_owner_survey_over();
	thaw();
	backlog_raise(false);
	atomic_store(&draining, false);
	atomic_flag_clear(&taken);
	if (restart.over)
		restart.over(restart.request.arg, result, why);
}

static void restart_leave(size_t workers)
{
	struct text why = TEXT_ON(restart.reason);
	int r;

	if (workers)
		log_warn("%zu workers have not passed on in time what they hold: it ends with them", workers);
	r = foreseen(&restart.request, &why); /* once more: it has been a while */
	if (!r)
		r = leave_restart(&restart.request, &why);
	call_off(r, restart.reason);
}

/* ---- looking ---- */

/*
 * Returns how many workers are not done. They get no request to drain while connections that were given to them are on
 * their way, or while this process is still busy with connections that it may give them. A worker that has passed on
 * its connections would keep those that come later. The drain waits for that as for requests, until the end is near.
 */
static size_t hear_workers(size_t busy)
{
	bool settled = (!busy || !atomic_load(&scm_send_any)) && scm_send_is_settled();

	if (!restart.workers_told && !settled && io_now() < restart.plan.deadline - DRAIN_GOODBYE_NS)
		return 1;
	if (!restart.workers_told)
		restart.plan.workers_ns = (int64_t)drain_owner_call(restart.plan.deadline) * DRAIN_EACH_NS;
	restart.workers_told = true;
	return drain_owner_collect();
}

static struct drain_seen look_around(void)
{
	struct drain_seen seen = {0};

	if (restart.plan.phase == DRAIN_AWAITS) {
		seen.slow_workers = drain_owner_slow(restart.survey);
	} else {
		seen.busy = drain_busy();
		seen.endless = drain_endless();
		seen.inside = drain_call_out();
		seen.workers = hear_workers(seen.busy);
	}
	seen.slow = inflight_left();
	seen.now = io_now();
	return seen;
}

/* The errand: ms until the next look; 0: there is no restart, or it is over. */
static int restart_look(void)
{
	struct drain_seen seen;
	enum drain_step step;

	if (!atomic_load(&draining) || roster_owner() != getpid())
		return 0;
	seen = look_around();
	step = drain_decide(&restart.plan, &seen);
	drain_take(&restart.plan, step, &seen);
	if (step == DRAIN_FREEZES) {
		restart_freeze();
		return restart_look();
	}
	if (step == DRAIN_LETS_GO) {
		thaw();
		await_slow();
	} else if (step == DRAIN_LEAVES && drain_close(seen.now >= restart.plan.deadline)) {
		restart_leave(seen.workers);
		return 0;
	}
	return drain_next_look(&restart.plan, io_now());
}

void restart_init(void)
{
	task_adds(restart_look);
}

int restart_begin(const struct leave_request *request, void (*over)(void *arg, int result, const char *why),
		  struct text *why)
{
	int r;

	if (atomic_flag_test_and_set(&taken))
		return -EBUSY;
	r = foreseen(request, why);
	if (r) {
		atomic_flag_clear(&taken);
		return r;
	}
	restart.request = *request;
	restart.over = over;
	restart.plan = drain_plan_of(request->asked_at, cpr__settings.drain_s * INT64_C(1000000000));
	if (request->path) {
		memcpy(restart.path, request->path, strnlen(request->path, TAG_NAME_MAX) + 1);
		restart.request.path = restart.path;
	}
	tagging_resolve();
	backlog_raise(true);
	/* a number that no worker had before, even if an image before this one asked */
	restart.survey = (uint64_t)request->asked_at;
	await_slow();
	atomic_store(&draining, true);
	return 0;
}
