/* SPDX-License-Identifier: MIT */
/* What the doorbell can be asked: a table of (verb, answer). */
#define _GNU_SOURCE
#include "restart/verbs.h"

#include "base/full.h"
#include "base/io.h"
#include "base/log.h"
#include "base/next.h"
#include "base/pool.h"
#include "base/raw.h"
#include "deliver/queue.h"
#include "drain/drain.h"
#include "fd/conn.h"
#include "fd/gate.h"
#include "fd/gate.h"
#include "fd/tagging.h"
#include "model/protocol.h"
#include "process/birth.h"
#include "process/caller.h"
#include "process/doorbell.h"
#include "process/guard.h"
#include "process/identity.h"
#include "process/procinfo.h"
#include "process/roster.h"
#include "process/startup.h"
#include "process/task.h"
#include "restart/arrive.h"
#include "restart/drain_worker.h"
#include "restart/foresee.h"
#include "restart/leave.h"
#include "restart/mode_handover.h"
#include "restart/pidfiles.h"
#include "restart/ready.h"
#include "restart/restart.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#ifndef CPR_VERSION
#define CPR_VERSION "0"
#endif

#define MS INT64_C(1000000)

enum {
	CALLS_MAX = 16,   /* callers that have not said yet what they want */
	FIRST_LOOK_MS = 1, /* at a caller that has not said it yet: most say it at once */
	LOOK_MS = 10,
};

/* A caller, from its ring to the end of its connection. */
struct call {
	uint64_t nonce;
	int64_t rang_at;
	int sock; /* -1: not connected yet */
	int fd;   /* what came with the request; -1 */
	struct protocol_request request;
	char answer[PROTOCOL_ANSWER_MAX];
	char reason[1024];
	struct text text;
};

static struct call *calls[CALLS_MAX];
static uint64_t heard[CALLS_MAX]; /* the nonces of the last callers: one that was not asked in time rings again */
static size_t heard_at;

static void put_command(struct text *t)
{
	char command[512];
	struct text c = TEXT_ON(command);

	for (char **arg = cpr__startup.argv; *arg; arg++) {
		if (arg != cpr__startup.argv)
			text_add(&c, " ");
		text_add(&c, *arg);
	}
	protocol_put(t, "command", command);
}

static void put_counts(struct text *t)
{
	size_t kept = 0, orphans = 0;
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	tagging_check_all(false);
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e)) {
		kept += e->flags & ENTRY_KEPT && !(e->flags & ENTRY_ORPHAN);
		orphans += !!(e->flags & ENTRY_ORPHAN);
	}
	guard_unlock(&hold);
	protocol_put_int(t, "descriptors", (int64_t)kept);
	protocol_put_int(t, "orphans", (int64_t)orphans);
}

/* This process's own, and how many more must be asked for theirs. */
static void put_connections(struct text *t)
{
	int64_t now = io_now();
	int64_t all = 0, fresh = 0, idle = 0;

	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);

		all++;
		if (c && conn_untouched(c))
			fresh++;
		else if (c && conn_at_boundary(c, now))
			idle++;
	}
	protocol_put_int(t, "workers", roster_elect() ? (int64_t)roster_worker_count() : 0);
	protocol_put_int(t, "connections", all);
	protocol_put_int(t, "connections_fresh", fresh);
	protocol_put_int(t, "connections_idle", idle);
	protocol_put_int(t, "connections_busy", all - fresh - idle);
	protocol_put_int(t, "connections_waiting", (int64_t)deliver_count());
}

/* Does the call end with its answer? */
enum answered { DONE, GOES_ON };

static enum answered answer_status(struct call *call)
{
	struct text *t = &call->text;
	int64_t now = io_now();
	bool owner = roster_elect();

	protocol_put(t, "result", "ok");
	protocol_put_int(t, "pid", getpid());
	protocol_put_int(t, "owner", roster_owner());
	protocol_put(t, "role", owner ? "owner" : "worker");
	protocol_put_int(t, "generation", generation_number());
	protocol_put(t, "mode", cpr__settings.supervisor ? "handover" : "exec");
	if (cpr__settings.supervisor)
		protocol_put_int(t, "supervisor", cpr__settings.supervisor);
	protocol_put(t, "gate", gate_is_closed ? "closed" : "open");
	protocol_put_int(t, "uptime_ms", (now - generation_first_at()) / MS);
	protocol_put_int(t, "generation_ms", (now - generation_started_at()) / MS);
	put_command(t);
	if (cpr__startup.directory)
		protocol_put(t, "directory", cpr__startup.directory);
	if (cpr__settings.test)
		protocol_put(t, "test", cpr__settings.test);
	put_counts(t);
	put_connections(t);
	protocol_put_int(t, "restarts", generation_number() - 1);
	if (owner && generation_number() > 1 && ready_reached()) {
		protocol_put_int(t, "last_restart_ms", ready_last().took_us / 1000);
		protocol_put_int(t, "last_restart_drain_ms", ready_last().drain_us / 1000);
		protocol_put_int(t, "last_restart_carried", ready_last().carried);
		protocol_put_int(t, "last_restart_closed", ready_last().closed);
		protocol_put_int(t, "last_restart_cut", ready_last().cut);
	}
	text_add(t, "full=");
	full_list(t);
	text_add(t, "\n");
	protocol_put_int(t, "arriving", owner && !ready_reached());
	protocol_put_int(t, "draining", restart_under_way() || drain_active);
	protocol_put_int(t, "signal", cpr__settings.signal);
	protocol_put(t, "version", CPR_VERSION);
	io_send(call->sock, t->bytes, t->used, -1);
	return DONE;
}

static enum answered answer_list(struct call *call)
{
	struct state state = {.generation = (uint32_t)generation_number(),
			      .first_at = generation_first_at(),
			      .table = cpr__table,
			      .heirlooms = cpr__startup.heirlooms,
			      .heirloom_count = cpr__startup.heirloom_count};
	cleanup_fd int fd = -1;
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return DONE;
	tagging_check_all(false);
	fd = state_write(&state, true);
	guard_unlock(&hold);
	protocol_put(&call->text, "result", fd < 0 ? "failed" : "ok");
	if (fd < 0) {
		errno = -fd;
		text_format(&call->text, "reason=the list could not be written: %m\n");
	}
	put_connections(&call->text);
	io_send(call->sock, call->text.bytes, call->text.used, fd);
	return DONE;
}

static void say(struct call *call, const char *result, const char *reason)
{
	call->text = text_on(call->answer, sizeof(call->answer));
	protocol_put(&call->text, "result", result);
	if (reason && *reason)
		protocol_put(&call->text, "reason", reason);
	io_send(call->sock, call->text.bytes, call->text.used, -1);
}

/* The exec would end the connection of callers whose request was not read. */
static void say_leaving(void *arg)
{
	for (size_t i = 0; i < CALLS_MAX; i++)
		if (calls[i] && calls[i] != arg && calls[i]->sock >= 0)
			say(calls[i], "busy", "a restart is under way already");
	say(arg, "leaving", NULL);
}

static void end_call(struct call *call)
{
	io_close(&call->sock);
	io_close(&call->fd);
	pool_unmap(call, sizeof(*call));
}

static void say_failed(struct call *call, int result, const char *why)
{
	if (result == -EBUSY)
		say(call, "busy", "a restart is under way already");
	else
		say(call, result == -EPERM ? "refused" : "failed", why);
	if (result != -EBUSY)
		log_error("the restart was called off: %s", why);
}

/* The drain is over, and so was the exec: back to serving. */
static void restart_is_over(void *arg, int result, const char *why)
{
	say_failed(arg, result, why);
	end_call(arg);
}

static enum answered answer_restart(struct call *call)
{
	struct leave_request request = {.nonce = call->nonce,
					.asked_at = io_now(),
					.path = call->request.path[0] ? call->request.path : NULL,
					.leaving = say_leaving,
					.arg = call};
	struct text why = TEXT_ON(call->reason);
	int r;

	if (!roster_elect()) {
		protocol_put(&call->text, "result", "worker");
		protocol_put_int(&call->text, "owner", roster_owner());
		io_send(call->sock, call->text.bytes, call->text.used, -1);
		return DONE;
	}
	if (request.path && !identity_may_choose_program(call->sock, &why)) {
		say_failed(call, -EPERM, call->reason);
		return DONE;
	}
	r = ready_reached() && !drain_worker_is_told() ? restart_begin(&request, restart_is_over, &why) : -EBUSY;
	if (r)
		say_failed(call, r, call->reason);
	return r ? DONE : GOES_ON;
}

static enum answered answer_foresee(struct call *call)
{
	foresee(call->sock, &call->request, &call->text);
	io_send(call->sock, call->text.bytes, call->text.used, -1);
	return DONE;
}

/* If it is concerned, the connection is the worker's from here on. */
static enum answered answer_drain(struct call *call)
{
	bool concerned = drain_worker_is_concerned(&call->request);
	const char *why = !concerned            ? NULL
			  : restart_under_way() ? "a restart is under way"
						: drain_worker_told(call->sock, &call->request);

	say(call, !concerned ? "none" : why ? "refused" : "ok", why);
	if (concerned && !why)
		call->sock = -1;
	return DONE;
}

static enum answered answer_join(struct call *call)
{
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);

	if (getsockopt(call->sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) || !procinfo_descends(peer.pid, getpid()))
		say(call, "refused", "this process has not started the process that asks");
	else
		deliver_share(call->sock, call->request.join.ino);
	return DONE;
}

static enum answered answer_retire(struct call *call)
{
	say(call, "refused", "retiring is handover mode's, and this process runs in exec mode");
	return DONE;
}

static enum answered answer_handover(struct call *call)
{
	handover_asked(call->sock, call->nonce, &call->request);
	call->sock = -1;
	return DONE;
}

static enum answered answer_alone(struct call *call)
{
	pidfiles_restore(false);
	say(call, "ok", NULL);
	return DONE;
}

static enum answered answer_behind(struct call *call)
{
	int r = gate_stand_before(call->request.join.ino, &call->fd);

	errno = -r;
	text_format(&call->text, r ? "result=refused\nreason=%m\n" : "result=ok\n");
	io_send(call->sock, call->text.bytes, call->text.used, -1);
	return DONE;
}

/* ---- the table ---- */

static const struct {
	enum protocol_verb verb;
	enum answered (*answer)(struct call *call);
} verbs[] = {
	{PROTOCOL_STATUS, answer_status}, {PROTOCOL_LIST, answer_list},   {PROTOCOL_RESTART, answer_restart},
	{PROTOCOL_RETIRE, answer_retire}, {PROTOCOL_DRAIN, answer_drain}, {PROTOCOL_JOIN, answer_join},
	{PROTOCOL_GIVE, answer_handover}, {PROTOCOL_DOORS, answer_handover}, {PROTOCOL_CLOSE, answer_handover},
	{PROTOCOL_OPEN, answer_handover}, {PROTOCOL_PASS, answer_handover},  {PROTOCOL_TAKE, answer_handover},
	{PROTOCOL_FORGET, answer_handover},  {PROTOCOL_ADOPT, answer_handover},
	{PROTOCOL_ALONE, answer_alone},   {PROTOCOL_BEHIND, answer_behind},
	{PROTOCOL_FORESEE, answer_foresee},
};

static enum answered verbs_answer(struct call *call)
{
	caller_wait_on(call->sock);
	call->text = text_on(call->answer, sizeof(call->answer));
	for (size_t i = 0; i < countof(verbs) && !protocol_check(&call->request, sizeof(call->request)); i++)
		if (verbs[i].verb == call->request.verb)
			return verbs[i].answer(call);
	say(call, "refused", "this is no request that this version of cpr knows");
	return DONE;
}

/* ---- callers ---- */

/* False: there is no room for it now. */
static bool open_call(uint64_t nonce)
{
	struct call *call = pool_map(sizeof(*call));

	if (!call)
		return false;
	call->nonce = nonce;
	call->sock = call->fd = -1;
	call->rang_at = io_now();
	for (size_t i = 0; i < CALLS_MAX; i++)
		if (!calls[i]) {
			calls[i] = call;
			return true;
		}
	end_call(call);
	return false;
}

static bool was_heard(uint64_t nonce)
{
	for (size_t i = 0; i < CALLS_MAX; i++)
		if (heard[i] == nonce)
			return true;
	heard[heard_at++ % CALLS_MAX] = nonce;
	return false;
}

static bool has_room(void)
{
	for (size_t i = 0; i < CALLS_MAX; i++)
		if (!calls[i])
			return true;
	return false;
}

/* What a caller has said: everything, or nothing (-EAGAIN), or it is to be let go of (another -errno). */
static int verbs_hear(struct call *call)
{
	ssize_t n;

	if (call->sock < 0)
		call->sock = caller_connect(call->nonce);
	if (call->sock < 0)
		return call->sock;
	n = io_receive(call->sock, &call->request, sizeof(call->request), &call->fd);
	if (n == -EAGAIN)
		return -EAGAIN;
	if (n != sizeof(call->request))
		call->request.magic = 0;
	return 0;
}

/* ms until the next look at this caller; 0: it is answered, or gone. */
static int verbs_go_on(struct call *call)
{
	int r = verbs_hear(call);
	int64_t waited = io_now() - call->rang_at;

	if (r == -EAGAIN && waited < PROTOCOL_TIMEOUT_MS * MS)
		return waited < LOOK_MS * MS ? FIRST_LOOK_MS : LOOK_MS;
	if (r || verbs_answer(call) == DONE)
		end_call(call);
	return 0;
}

static void take_new_callers(void)
{
	uint64_t nonce;

	while (has_room() && doorbell_next(&nonce))
		if (!was_heard(nonce))
			open_call(nonce);
}

/*
 * The errand: ms until the next look. A caller that says nothing holds up no other: it is looked at, and not waited
 * for. More may have rung than there is room for: one that is answered or gone makes room for the next.
 */
static int verbs_look(void)
{
	int soonest;

	do {
		soonest = 0;
		take_new_callers();
		for (size_t i = 0; i < CALLS_MAX; i++) {
			int ms = calls[i] ? verbs_go_on(calls[i]) : 0;

			if (!ms)
				calls[i] = NULL;
			else if (!soonest || ms < soonest)
				soonest = ms;
		}
	} while (has_room() && doorbell_waits());
	return soonest;
}

static void signalled_is_over(void *arg, int result, const char *why)
{
	(void)arg;
	(void)result;
	log_error("the restart by signal was called off: %s", why);
}

static void restart_by_signal(void)
{
	struct leave_request request = {.asked_at = io_now()};
	char reason[512];
	struct text why = TEXT_ON(reason);
	int r = !roster_elect() || !ready_reached() || drain_worker_is_told()
			? -EBUSY
			: restart_begin(&request, signalled_is_over, &why);

	if (r && r != -EBUSY)
		log_error("the restart by signal was called off: %s", reason);
}

static int look_at_signal(void)
{
	if (doorbell_took_restart())
		restart_by_signal();
	return 0;
}

/* In a forked child: the callers are its parent's, and so are their connections. */
static void forget_callers(void)
{
	for (size_t i = 0; i < CALLS_MAX; i++) {
		if (calls[i]) {
			io_close(&calls[i]->sock);
			io_close(&calls[i]->fd);
		}
		calls[i] = NULL;
	}
}

void verbs_init(void)
{
	birth_when_born(forget_callers);
	task_adds(verbs_look);
	task_adds(look_at_signal);
}
