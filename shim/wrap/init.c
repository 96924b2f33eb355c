/* SPDX-License-Identifier: MIT */
/* The constructor: start order. */
#define _GNU_SOURCE
#include "wrap/init.h"
#include "wrap/wrap.h"

#include "restart/arrive.h"
#include "process/doorbell.h"
#include "process/task.h"
#include "restart/drain_worker.h"
#include "restart/restart.h"
#include "restart/verbs.h"
#include "deliver/queue.h"
#include "deliver/take.h"
#include "drain/drain.h"
#include "drain/freeze.h"
#include "fd/claim.h"
#include "fd/gate.h"
#include "fd/inherited.h"
#include "process/birth.h"
#include "process/forks.h"
#include "process/page.h"
#include "process/guard.h"
#include "process/identity.h"
#include "restart/leave.h"
#include "restart/parts.h"
#include "base/log.h"
#include "base/next.h"
#include "model/image.h"
#include "fd/pending.h"
#include "process/roster.h"
#include "process/startup.h"
#include "base/pool.h"
#include "restart/drain_owner.h"
#include "restart/mode_handover.h"

#include <errno.h>
#include <unistd.h>

/* For the last generation, which looks here before it leaves (model/image.h). */
__attribute__((section(".note.cpr"), used, aligned(4))) static const struct {
	uint32_t name_size, size, type;
	char name[sizeof(IMAGE_NOTE_NAME)];
	uint32_t format;
} note = {sizeof(IMAGE_NOTE_NAME), sizeof(uint32_t), IMAGE_NOTE_FORMAT, IMAGE_NOTE_NAME, STATE_VERSION};

static const struct gate_hooks gate_hooks = {freeze_move_out, freeze_move_in, deliver_to};

static char **argv;

/* Their hooks run around a fork in reverse order: the guard is taken first. */
static int family(void)
{
	int r = birth_init();

	if (!r)
		r = page_init(identity_seccomp_filters());
	if (!r)
		r = forks_init();
	if (!r)
		r = roster_init();
	if (!r)
		r = guard_init();
	if (!r)
		r = task_init();
	return r;
}

static int start(void)
{
	struct crossing crossing = {0};
	int r;

	next_resolve();
	log_begin();
	pool_begin();
	settings_read(&cpr__settings, environ);
	gate_begin(environ, &gate_hooks);
	r = family(); /* before the table is there for a wrapper to see */
	if (r)
		return r;
	arrive_read(&crossing.state);
	crossing.argv = argv;
	r = parts_arrive(&crossing);
	if (!r)
		r = leave_init();
	if (!r) {
		claim_on_listener(deliver_to);
		inherited_on_answer(deliver_join);
		arrive_begin();
		deliver_to_inherited();
		gate_add_inherited();
		if (gate_claims() || cpr__settings.comes_back)
			deliver_expect();
		pending_init();
		drain_init();
		drain_owner_init();
		verbs_init();
		drain_worker_init();
		restart_init();
		doorbell_when_heard(deliver_heard);
		cpr__deliver_own_signals();
		handover_init();
		r = doorbell_init();
	}
	state_free(&crossing.state);
	guard_begin();
	if (!r)
		task_begin(generation_is_settling);
	return r;
}

int cpr__init(void)
{
	static bool done;
	static int result;
	int saved_errno = errno;

	if (!done) {
		done = true;
		result = start();
		errno = -result;
		if (result)
			log_error("not under cpr: %m");
		errno = saved_errno;
	}
	return result;
}

/*
 * glibc passes main's arguments to constructors. 101: before any library's ordinary constructor that may open
 * something.
 */
__attribute__((constructor(101))) static void constructor(int count, char **arguments)
{
	(void)count;
	argv = arguments;
	cpr__init();
}
