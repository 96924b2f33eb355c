/* SPDX-License-Identifier: MIT */
/* Handover: a wish of the supervisor's goes from the owner to its workers by the page, and is acknowledged there. */
#define _GNU_SOURCE
#include "restart/mode_handover.h"

#include "base/io.h"
#include "base/log.h"
#include "base/next.h"
#include "base/raw.h"
#include "deliver/queue.h"
#include "deliver/take.h"
#include "drain/scm_recv.h"
#include "fd/conn.h"
#include "fd/gate.h"
#include "fd/inherited.h"
#include "process/birth.h"
#include "process/caller.h"
#include "process/guard.h"
#include "process/roster.h"
#include "process/share.h"
#include "process/task.h"
#include "restart/abandoned.h"
#include "restart/backlog.h"
#include "restart/give.h"
#include "restart/pass.h"
#include "restart/pidfiles.h"
#include "restart/take.h"
#include "restart/threads.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define MS INT64_C(1000000)
#define ACKNOWLEDGED_NS (1000 * MS)

enum { STEP_MS = 1, RING_TURNS = 8, VERB_BITS = 8 };

/* What this process has done last: page_drain.gate as it was. A child is born as its parent was. */
static uint64_t fulfilled;

/* The owner's: what is under way, and the caller that waits for it. */
static struct {
	uint64_t wish; /* 0: nothing */
	uint32_t verb;
	int sock;
	int64_t asked_at;
	int turn;
	bool undoing;
	int result; /* of this process's own part */
} asked = {.sock = -1};

/* What was asked while all processes were told of something that is not waited for. */
static struct {
	int sock;
	uint64_t nonce;
} queued = {.sock = -1};
static cpr_large struct protocol_request queued_request;

static bool passes_as_exec_worker; /* asked by the supervisor itself, and not by an owner */
static bool closed_to_pass; /* … and not by its word: the end of the line opens the gate again */

static void handover_answer(int sock, const char *result, const char *reason, size_t processes)
{
	char bytes[512];
	struct text t = TEXT_ON(bytes);

	protocol_put(&t, "result", result);
	if (reason)
		protocol_put(&t, "reason", reason);
	if (processes)
		protocol_put_int(&t, "processes", (int64_t)processes);
	if (processes && asked.verb == PROTOCOL_CLOSE)
		protocol_put_int(&t, "accepted", share_accepted());
	io_send(sock, t.bytes, t.used, -1);
}

/* ---- in each process ---- */

static void pass_to(uint64_t line)
{
	int sock = caller_connect_in_turn(line);

	if (sock >= 0)
		pass_begin(sock);
	else if (conn_next(0) >= 0)
		log_warn("this worker could not pass its connections on: they stay with it");
}

/*
 * They stand in the queues of the listeners: behind the gate another generation would take them for clients. Not where
 * workers accept as well: they take what poll() has seen here, and accept() on a listener that blocks would not return.
 */
static void take_knocks_back(void)
{
	struct guard_hold hold;

	if (!take_delivers_here() || roster_has_workers() || !deliver_left() || !guard_lock(&hold))
		return;
	deliver_reclaim();
	guard_unlock(&hold);
}

/* What was taken back, and was not passed on. */
static void deliver_again(void)
{
	struct guard_hold hold;

	if (!take_delivers_here() || !deliver_left() || !guard_lock(&hold))
		return;
	deliver_call_off();
	guard_unlock(&hold);
}

/* A worker that was stopped when all closed their gates goes on only now. */
static int closed_late(void)
{
	int r = gate_has_left || roster_elect() ? 0 : gate_close();

	if (!r && gate_is_closed)
		threads_look_again();
	return r;
}

/* 0, or -errno. */
static int fulfil(uint32_t verb, uint64_t line)
{
	int r = 0;

	switch (verb) {
	case PROTOCOL_CLOSE:
		take_knocks_back();
		r = gate_close();
		share_end();
		threads_look_again();
		break;
	case PROTOCOL_OPEN:
		if (gate_has_left && roster_elect())
			pidfiles_restore(true);
		pass_end(); /* what stands frozen is known by the listener as it is now */
		share_begin();
		gate_open();
		deliver_again();
		threads_look_again();
		break;
	case PROTOCOL_FORGET:
		r = closed_late();
		gate_forget();
		break;
	case PROTOCOL_GIVE:
		if (!roster_elect())
			give_to(line);
		break;
	case PROTOCOL_PASS:
		r = closed_late();
		if (!roster_elect())
			pass_to(line);
		break;
	case PROTOCOL_TAKE: /* the end of it */
		deliver_expect_no_more();
		break;
	case PROTOCOL_ADOPT:
		cpr__settings.supervisor = (int)line;
		break;
	case PROTOCOL_RETIRE:
		r = abandoned_is_empty() ? 0 : -EBUSY;
		break;
	}
	return r;
}

static void look_as_worker(void)
{
	uint64_t wish = atomic_load(&page_shared_drain()->gate);

	if (!wish)
		return;
	if (wish != fulfilled) {
		if (fulfil((uint32_t)(wish & ((1 << VERB_BITS) - 1)), atomic_load(&page_shared_drain()->line)))
			return; /* not acknowledged: the owner undoes it in time */
		fulfilled = wish;
	}
	roster_worker_gated(wish);
}

/* ---- in the owner ---- */

static void wish_for(uint32_t verb, uint64_t line)
{
	static uint64_t wishes;

	wishes++;
	asked.wish = wishes << VERB_BITS | verb;
	asked.turn = 0;
	atomic_store(&page_shared_drain()->line, line);
	atomic_store(&page_shared_drain()->gate, asked.wish);
	asked.result = fulfil(verb, line);
	fulfilled = asked.wish; /* not before: a child that is born in between has not done it */
	roster_owner_gated();
}

static void end(const char *result, const char *reason, size_t processes)
{
	if (asked.sock >= 0) {
		handover_answer(asked.sock, result, reason, processes);
		raw_close(asked.sock);
	}
	asked.sock = -1;
	asked.wish = 0;
}

static void undo(void)
{
	int64_t asked_at = asked.asked_at;

	if (share_counts || share_accepted())
		share_ask(0, 0); /* the turn is not begun again: all that was wanted of it have come */
	wish_for(PROTOCOL_OPEN, 0);
	asked.asked_at = asked_at;
	asked.undoing = true;
}

static void end_undone(void)
{
	char why[128];
	struct text t = TEXT_ON(why);

	errno = -asked.result;
	asked.undoing = false;
	if (asked.result)
		text_format(&t, "the gate could not be closed: %m");
	else
		text_add(&t, "a process of this generation did not close its gate in time");
	end("failed", why, 0);
}

/* ms until the next look; 0: nothing is under way. */
static int look_as_owner(void)
{
	int64_t now = io_now();
	size_t left;

	if (!asked.wish)
		return backlog_look(now);
	if (asked.result && asked.verb == PROTOCOL_CLOSE && !asked.undoing) {
		int result = asked.result;

		undo();
		asked.result = result;
	}
	left = roster_workers_not_gated(asked.wish, asked.turn++ % RING_TURNS == 0);
	if (left && now - asked.asked_at < ACKNOWLEDGED_NS * (asked.undoing ? 2 : 1))
		return STEP_MS;
	if (asked.undoing) {
		end_undone();
	} else if (left && asked.verb == PROTOCOL_CLOSE) {
		undo();
		return STEP_MS;
	} else if (left) {
		log_warn("%zu workers have not answered in time to a part of a handover", left);
		end("failed", "a process of this generation did not answer in time", 0);
	} else {
		backlog_lower_later(asked.verb == PROTOCOL_OPEN ? now : 0);
		end("ok", NULL, roster_worker_count() + 1);
	}
	return backlog_look(now);
}

static void answer_doors(int sock)
{
	static cpr_large char bytes[PROTOCOL_ANSWER_MAX];
	struct text t = text_on(bytes, sizeof(bytes));

	protocol_put(&t, "result", "ok");
	gate_put_doors(&t);
	io_send(sock, t.bytes, t.used, -1);
	raw_close(sock);
}

static const char *handover_refusal(uint32_t verb)
{
	if (!roster_elect() && !(verb == PROTOCOL_TAKE && deliver_can_take()))
		return "this process is a worker";
	if (asked.wish && (asked.sock >= 0 || queued.sock >= 0))
		return "another part of a handover is under way";
	if (verb == PROTOCOL_GIVE && gate_is_closed)
		return "this generation is behind its gate";
	if ((verb == PROTOCOL_TAKE || verb == PROTOCOL_ADOPT) && gate_is_closed)
		return "this generation is behind its gate";
	if ((verb == PROTOCOL_FORGET || verb == PROTOCOL_PASS) && !gate_has_left)
		return "this generation has not closed its gate";
	if (verb == PROTOCOL_OPEN && gate_is_given_up())
		return "this generation has given its listeners up";
	return NULL;
}

/* ---- in a process that the generation has exec'ed ---- */

static bool has_key(int fd, const struct protocol_request *request)
{
	uint64_t key = scm_recv_key(fd);

	for (size_t i = 0; key && i < request->drain.key_count; i++)
		if (request->drain.keys[i] == key)
			return true;
	return false;
}

/* Was it started with one of the generation's listeners? */
static bool shares_listener(const struct protocol_request *request)
{
	struct guard_hold hold;
	bool shares = false;

	if (!guard_lock(&hold))
		return false;
	for (const struct entry *e = table_first(cpr__table); e && !shares; e = table_after(e)) {
		const struct entry *hidden = gate_behind(e);

		shares = e->kind == ENTRY_STREAM && e->flags & ENTRY_STARTED_WITH &&
			 has_key(hidden ? hidden->fd : e->fd, request);
	}
	guard_unlock(&hold);
	return shares;
}

/* Its gate closes only here: it bound none of these listeners, and so it is no part of what CLOSE waits for. */
static void pass_of_exec_worker(int sock, const struct protocol_request *request)
{
	bool shares = shares_listener(request), closes = shares && !gate_has_left;
	bool was_given = scm_recv_is_of(request->drain.keys, request->drain.key_count);

	if (!inherited_ancestor() || (!shares && !was_given)) {
		handover_answer(sock, "none", NULL, 0);
		raw_close(sock);
		return;
	}
	/* by an earlier connection as well, whose supervisor was killed */
	closed_to_pass = closes || (passes_as_exec_worker && closed_to_pass);
	if (closes && gate_close())
		log_warn("this worker goes on to accept clients: its listeners could not be closed");
	threads_look_again();
	inherited_pass(true);
	passes_as_exec_worker = true;
	handover_answer(sock, "ok", NULL, 0);
	pass_begin(sock);
}

/* Has the supervisor ended the line? Then this generation serves again. */
static void look_as_exec_worker(void)
{
	if (!passes_as_exec_worker || pass_under_way())
		return;
	passes_as_exec_worker = false;
	inherited_pass(false);
	if (closed_to_pass && gate_has_left)
		gate_open();
	threads_look_again();
}

void handover_asked(int sock, uint64_t nonce, const struct protocol_request *request)
{
	uint32_t verb = request->verb;
	const char *why;

	if (verb == PROTOCOL_PASS && request->drain.key_count) {
		pass_of_exec_worker(sock, request);
		return;
	}
	why = handover_refusal(verb);
	if (why) {
		handover_answer(sock, "refused", why, 0);
		raw_close(sock);
		return;
	}
	if (asked.wish) {
		queued.sock = sock;
		queued.nonce = nonce;
		queued_request = *request;
		return;
	}
	if (verb == PROTOCOL_DOORS) {
		answer_doors(sock);
		return;
	}
	if (verb == PROTOCOL_TAKE) {
		take_asked(sock, request);
		return;
	}
	if (verb == PROTOCOL_ADOPT && !(nonce = (uint64_t)caller_pid(sock))) {
		handover_answer(sock, "refused", "its process id is not one of this pid namespace", 0);
		raw_close(sock);
		return;
	}
	asked.sock = sock;
	asked.verb = verb;
	asked.asked_at = io_now();
	asked.undoing = false;
	if (verb == PROTOCOL_GIVE) {
		pidfiles_remember();
		give_on(sock, roster_worker_count() + 1, request->flags & PROTOCOL_WITH_START);
		wish_for(verb, nonce);
		raw_close(sock);
		asked.sock = -1;
		asked.wish = 0;
		roster_workers_not_gated(fulfilled, true);
		return;
	}
	if (verb == PROTOCOL_CLOSE) /* of a canary's last turn: its file is put back when it opens for good */
		pidfiles_remember();
	if (verb == PROTOCOL_OPEN)
		share_ask(request->clients, request->drain.nonce);
	if (verb == PROTOCOL_PASS) {
		handover_answer(sock, "ok", NULL, roster_worker_count() + 1);
		pass_begin(sock);
		asked.sock = -1;
	}
	wish_for(verb, nonce);
}

static void ask_queued(void)
{
	int sock = queued.sock;

	queued.sock = -1;
	handover_asked(sock, queued.nonce, &queued_request);
}

/* Workers look at each client that they accept whether it is a knock: no more. */
static void end_taking(void)
{
	asked.verb = PROTOCOL_TAKE;
	asked.asked_at = io_now();
	wish_for(PROTOCOL_TAKE, 0);
}

/* There is no supervisor to answer. */
static uint64_t ask_all_to_be_empty(void)
{
	uint64_t wish;

	pass_end();
	wish_for(PROTOCOL_RETIRE, 0);
	wish = asked.wish;
	asked.wish = 0;
	return wish;
}

static int sooner(int a, int b)
{
	return !a || (b && b < a) ? b : a;
}

/* ---- */

static int handover_look(void)
{
	struct page_drain *drain = page_shared_drain();
	int ms;

	if (!drain)
		return 0;
	if (!roster_elect()) {
		look_as_worker();
		if (take_is_done())
			deliver_expect_no_more();
		return sooner(pass_look(), take_look());
	}
	if (!asked.wish && queued.sock >= 0)
		ask_queued();
	if (!asked.wish && take_is_done())
		end_taking();
	ms = pass_look();
	look_as_exec_worker();
	ms = sooner(look_as_owner(), sooner(ms, take_look()));
	if (!asked.wish)
		ms = sooner(ms, abandoned_look(ask_all_to_be_empty));
	/* what it waited for has just come to its end: without another look it waited until something else rang */
	return queued.sock >= 0 ? sooner(ms, STEP_MS) : ms;
}

static void handover_forget(void)
{
	pass_forget();
	take_forget();
	asked.wish = 0;
	asked.sock = queued.sock = -1;
	passes_as_exec_worker = false;
}

void handover_init(void)
{
	task_adds(handover_look);
	birth_when_born(handover_forget);
}
