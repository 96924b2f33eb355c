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
#include "fd/closed.h"
#include "fd/gate.h"
#include "fd/inherited.h"
#include "fd/replay.h"
#include "fd/tagging.h"
#include "process/sandbox.h"
#include "process/birth.h"
#include "process/forks.h"
#include "process/page.h"
#include "process/guard.h"
#include "process/identity.h"
#include "process/light.h"
#include "restart/leave.h"
#include "restart/parts.h"
#include "restart/ready.h"
#include "base/log.h"
#include "base/next.h"
#include "model/image.h"
#include "fd/pending.h"
#include "process/roster.h"
#include "process/share.h"
#include "process/snapshot.h"
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

static const struct gate_hooks gate_hooks = {freeze_move_out, freeze_move_in, replay_onto, deliver_to};

static bool serves(void)
{
	return ready_reached() && !gate_is_closed && !gate_has_left;
}

/* The socket lives on in the supervisor, and the program may bind it again. */
static void listener_closes(int fd)
{
	freeze_unregister(fd);
	arrive_again();
}

static const struct closed_hooks closed_hooks = {serves, listener_closes};

/* Their hooks run around a fork in reverse order: the guard is taken first. */
static int family(void)
{
	int r = birth_init();

	if (!r)
		r = page_init(cpr__snapshot.filters);
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

static int init_start(void)
{
	struct crossing crossing = {0};
	int r;

	if (!cpr__snapshot.taken)
		return -ENOMEM;
	next_resolve();
	log_begin(cpr__snapshot.stderr_socket);
	pool_begin();
	settings_read(&cpr__settings, (char **)cpr__snapshot.envp);
	gate_begin(environ, &gate_hooks);
	snapshot_complete();
	cpr__snapshot.filters = identity_seccomp_filters();
	r = family(); /* before the table is there for a wrapper to see */
	if (r)
		return r;
	arrive_read(&crossing.state);
	r = parts_arrive(&crossing);
	if (!r)
		r = leave_init();
	if (!r) {
		claim_on_listener(deliver_to);
		closed_begin(&closed_hooks);
		inherited_on_answer(deliver_join);
		arrive_begin();
		deliver_to_inherited();
		gate_add_inherited();
		if (gate_claims() || cpr__settings.comes_back)
			deliver_expect();
		pending_init();
		sandbox_when_entering(tagging_resolve);
		drain_init();
		drain_owner_init();
		verbs_init();
		drain_worker_init();
		restart_init();
		doorbell_when_heard(deliver_heard);
		cpr__deliver_own_signals();
		handover_init();
		share_init();
		r = doorbell_init();
	}
	state_free(&crossing.state);
	guard_begin();
	if (!r)
		task_begin(generation_is_settling);
	return r;
}

static cpr_touched int result = -EAGAIN;

/* For a light start as well: it keeps errno, and a handler of the program may have come to it. */
static __attribute__((noinline)) void init_begin(void)
{
	int saved_errno = errno;

	result = init_start();
	errno = -result;
	if (result)
		log_error("not under cpr: %m");
	errno = saved_errno;
}

int cpr__init(void)
{
	begin_if_light();
	return result;
}

static cpr_startup bool has_setting(char *const envp[])
{
	for (; envp && *envp; envp++)
		if ((*envp)[0] == 'C' && (*envp)[1] == 'P' && (*envp)[2] == 'R' && (*envp)[3] == '_')
			return true;
	return false;
}

/*
 * The program that cpr-exec started (CPR_PID) is served from its first instruction: it can be rung, and is listed. So
 * is a next generation, what was given a listener, and what a person has started with settings of its own. Every other
 * program has only inherited the preload: what it does shows what it is. Rules may keep any file that it opens.
 */
static cpr_startup bool may_be_light(char *const envp[])
{
	if (cpr__snapshot.listens)
		return false;
	if (!has_setting(envp))
		return true;
	return !settings_env(envp, SETTINGS_STATE_FD) && !settings_env(envp, SETTINGS_GATE) &&
	       !settings_env(envp, SETTINGS_RULES) &&
	       settings_number(envp, SETTINGS_PID, 1, INT32_MAX, cpr__snapshot.pid) != cpr__snapshot.pid;
}

/* What is forked may listen. */
static void end_light_start(void)
{
	begin_if_light();
}

/*
 * glibc passes main's arguments to constructors. 101: before any library's ordinary constructor that may open
 * something.
 */
__attribute__((constructor(101))) static void constructor(int count, char **arguments)
{
	int saved_errno = errno;

	if (snapshot_take(count, arguments, environ) || birth_watch_forks(end_light_start))
		return;
	if (may_be_light(environ))
		light_until(init_begin);
	else
		init_begin();
	errno = saved_errno;
}
