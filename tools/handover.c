/* SPDX-License-Identifier: MIT */
/* One handover: the next generation starts behind its gate, proves itself, and takes over; or is ended, and the old one
 * never noticed. */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum {
	GIVE_PATIENCE_MS = 5000,
	CHECK_PAUSE_MS = 200,
	PASS_PATIENCE_MS = 1000, /* for what is idle to be carried, before the answer goes out */
	FORGET_PATIENCE_MS = 5000,
};

bool handover_under_way(const struct supervisor *s)
{
	return s->handover.phase != HANDOVER_NONE;
}

void handover_note(struct supervisor *s, const char *format, ...)
{
	char line[REASON_SIZE];
	struct text t = TEXT_ON(line);
	va_list args;

	va_start(args, format);
	text_vformat(&t, format, args);
	va_end(args);
	protocol_put(&s->handover.notes_text, "warning", line);
}

static void reset(struct supervisor *s)
{
	struct handover *h = &s->handover;

	if (h->check > 0)
		kill(h->check, SIGKILL); /* it is reaped as a child that is no generation's */
	io_close(&h->check_output);
	free((char *)h->path);
	*h = (struct handover){.check_output = -1};
	notify_phase(s, "READY"); /* a reload is over, well or not */
}

/* ---- telling ---- */

static void tell_phase(struct supervisor *s, const char *phase)
{
	char text[128];
	struct text t = TEXT_ON(text);

	protocol_put(&t, "result", "progress");
	protocol_put(&t, "phase", phase);
	callers_tell(s, text, t.used, false);
}

static void tell_failed(struct supervisor *s, const struct generation *g, const char *why)
{
	char text[PROTOCOL_ANSWER_MAX];
	struct text t = TEXT_ON(text);

	protocol_put(&t, "result", "failed");
	protocol_put(&t, "reason", why);
	protocol_put_int(&t, "serves", s->serving && !s->serving->ended);
	if (g)
		tail_put(&g->tail, &t);
	text_add_bytes(&t, s->handover.notes, s->handover.notes_text.used);
	callers_tell(s, text, t.used, true);
}

static void copy_number(struct text *t, const char *from, const char *key)
{
	int64_t number;

	protocol_put_int(t, key, protocol_get_int(from, key, &number) ? 0 : number);
}

static void tell_done(struct supervisor *s)
{
	struct handover *h = &s->handover;
	char text[PROTOCOL_ANSWER_MAX];
	struct text t = TEXT_ON(text);
	uint32_t connections, carried = h->carried;
	size_t draining = lives_draining(s, &connections);

	for (const struct generation *g = s->generations; g; g = g->next)
		if (g->number == h->old)
			carried = g->carried;
	s->last_restart_us = (io_now() - h->asked_at) / 1000;
	s->last_gate_us = h->gate_us;
	figures_restarted(&s->figures, s->last_restart_us, h->gate_us);
	journal_restart(s, carried, draining);
	protocol_put(&t, "result", "ready");
	protocol_put_int(&t, "pid", h->next->owner);
	protocol_put_int(&t, "generation", h->next->number);
	protocol_put_int(&t, "descriptors", (int64_t)holdings_count(&s->holdings));
	protocol_put_int(&t, "carried", carried);
	protocol_put_int(&t, "closed", 0);
	protocol_put_int(&t, "cut", h->cut);
	copy_number(&t, h->ready, "orphans");
	protocol_put_int(&t, "gate_us", h->gate_us);
	protocol_put_int(&t, "ready_us", s->last_restart_us);
	protocol_put_int(&t, "draining", (int64_t)draining);
	protocol_put_int(&t, "draining_connections", connections);
	text_add_bytes(&t, h->notes, h->notes_text.used);
	callers_tell(s, text, t.used, true);
}

void handover_done(struct supervisor *s)
{
	tell_done(s);
	reset(s);
	s->refreshes = 0;
	reports_refresh_soon(s, io_now() + SECOND);
}

/* ---- calling it off ---- */

void handover_failed(struct supervisor *s, const char *why)
{
	s->figures.failures++;
	tell_failed(s, s->handover.next, why);
	reset(s);
}

void handover_fail(struct supervisor *s, const char *why)
{
	struct generation *g = s->handover.next;

	supervisor_say("the restart was called off: %s", why);
	if (!canary_give_back(s) && g && g != s->serving) {
		g->phase = GENERATION_FAILED;
		lives_retire(s, g, s->options.retire_signal);
	}
	handover_failed(s, why);
	if (s->serving || s->ending)
		return;
	if (s->options.attach && !s->proven) { /* that one serves on, and knows nothing of us */
		s->status = W_EXITCODE(EXIT_FAILURE, 0);
		lives_end_all(s, s->options.retire_signal);
		return;
	}
	s->start_again_at = io_now(); /* the old one has died meanwhile */
}

/* ---- go ---- */

void handover_step_down(struct generation *old)
{
	io_close(&old->take); /* it took connections until now */
	old->take = -1;
	generation_note_members(old);
}

/* There is no way back: it gives up the listeners that it holds behind its gate. */
static void forget(const struct generation *old)
{
	cleanup_client struct client client = CLIENT_NONE;
	cleanup_answer struct answer answer = ANSWER_NONE;
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);

	if (client_call(&client, old->owner, PROTOCOL_FORGET, io_now() + FORGET_PATIENCE_MS * MS, &answer, &why))
		supervisor_say("PID %d does not give up its listeners: %s", (int)old->owner, reason);
}

void handover_drain(struct supervisor *s, struct generation *old)
{
	old->phase = GENERATION_DRAINING;
	old->leave_by = io_now() + s->options.drain_s * SECOND;
	if (!old->ended)
		forget(old);
	passing_settled(s, old);
}

static void leave_behind(struct supervisor *s, struct generation *old, struct generation *next)
{
	int seconds = s->options.rollback_s ? s->options.rollback_s : s->options.drain_s;

	handover_step_down(old);
	if (s->handover.unreachable) {
		gateless_dismiss(s, old);
		return;
	}
	old->phase = s->options.rollback_s ? GENERATION_KEPT : GENERATION_DRAINING;
	old->leave_by = io_now() + seconds * SECOND;
	passing_begin(s, old, next);
	if (s->options.rollback_s)
		rollback_watch(s, s->handover.listener);
	else
		forget(old);
	if (handover_one_too_many(s))
		passing_settled(s, handover_one_too_many(s)); /* the next restart ends it */
}

/* Some time with a share of the clients is left, if that is wanted. */
static void proven(struct supervisor *s)
{
	if (canary_is_wanted(s))
		canary_begin(s);
	else
		handover_go(s);
}

void handover_go(struct supervisor *s)
{
	struct handover *h = &s->handover;
	struct generation *old = s->serving, *next = h->next;
	char reason[REASON_SIZE] = "";
	struct text why = TEXT_ON(reason);
	int64_t gate_us = 0;

	text_add(&why, "the gates could not be changed: ");
	h->canary.over = true;
	if (!s->recipe.filtered &&
	    gates_swap(s, h->unreachable || canary_is_open(s) ? NULL : old, next, &gate_us, &why)) {
		handover_fail(s, reason);
		return;
	}
	h->gate_us = gate_us > h->gate_us ? gate_us : h->gate_us;
	next->phase = GENERATION_SERVING;
	s->serving = next;
	s->restarts++;
	s->proven = true;
	if (h->path) { /* what was given by --exec is the program from here on */
		s->recipe.path = h->path;
		h->path = NULL;
	}
	h->phase = HANDOVER_PASSING;
	h->report_by = io_now() + PASS_PATIENCE_MS * MS;
	h->old = old ? old->number : 0;
	if (old)
		leave_behind(s, old, next);
	if (!old || h->unreachable)
		handover_passed(s);
	if (s->options.attach && s->restarts == 1)
		gateless_follow_attached(s);
}

void handover_passed(struct supervisor *s)
{
	if (s->handover.phase == HANDOVER_PASSING)
		handover_done(s);
}

/* ---- health ---- */

static void begin_check(struct supervisor *s)
{
	struct handover *h = &s->handover;
	pid_t pid;

	h->check_at = 0;
	if (!*h->door && s->recipe.filtered)
		gateless_door(s, h->door, sizeof(h->door));
	else if (!*h->door)
		gates_ask_door(s);
	io_close(&h->check_output);
	h->check_output = -1;
	pid = health_begin(&s->options.health, h->door, &s->recipe.mask, &h->check_output);
	if (pid > 0)
		h->check = pid;
	else
		h->check_at = io_now() + CHECK_PAUSE_MS * MS;
}

void handover_checked(struct supervisor *s, int status)
{
	struct handover *h = &s->handover;
	struct text why = TEXT_ON(h->unhealthy);

	h->check = 0;
	if (h->phase == HANDOVER_CANARY)
		canary_checked(s, status);
	if (h->phase != HANDOVER_CHECKING)
		return;
	if (!status) {
		proven(s);
		return;
	}
	health_reason(h->check_output, status, &why);
	h->check_at = io_now() + CHECK_PAUSE_MS * MS;
}

void handover_ready(struct supervisor *s, const char *said)
{
	struct handover *h = &s->handover;

	if (h->phase != HANDOVER_STARTING && h->phase != HANDOVER_ARRIVING)
		return;
	snprintf(h->ready, sizeof(h->ready), "%s", said);
	if (!turn_ready(s))
		settle_begin(s);
}

void handover_settled(struct supervisor *s)
{
	struct handover *h = &s->handover;

	if (locks_hinder(s) || !stranded_tell(s))
		return;
	if (!health_is_wanted(&s->options.health)) {
		proven(s);
		return;
	}
	h->phase = HANDOVER_CHECKING;
	tell_phase(s, "checking");
	begin_check(s);
}

/* ---- the beginning ---- */

/*
 * Returns the oldest generation if more drain than may; NULL: there is room. One that is kept for a rollback counts: it
 * will drain.
 */
struct generation *handover_one_too_many(const struct supervisor *s)
{
	struct generation *oldest = NULL;
	int n = 0;

	for (struct generation *g = s->generations; g; g = g->next)
		if (g->phase == GENERATION_DRAINING || g->phase == GENERATION_KEPT) {
			n++;
			oldest = g; /* newest first */
		}
	return n >= s->options.generations ? oldest : NULL;
}

/* What the old one holds; of one that does not answer (stopped, sandboxed), what the supervisor has. False, and `why`.
 */
static bool collect(struct supervisor *s, struct text *why)
{
	struct handover *h = &s->handover;
	char reason[REASON_SIZE];
	struct text inner = TEXT_ON(reason);

	if (s->recipe.filtered) {
		notices_settle(s);
		h->unreachable = true; /* and has nothing to say: what it holds is known */
		return true;
	}
	if (holdings_take(&s->holdings, s->serving->owner, GIVE_PATIENCE_MS, &inner)) {
		if (s->told_to_end) {
			text_add(why, "the supervisor was told to end");
			return false;
		}
		if (!holdings_count(&s->holdings)) {
			text_format(why, "the old generation did not give its descriptors: %s", reason);
			return false;
		}
		h->unreachable = true;
		handover_note(s,
			      "the old generation, PID %d, did not give its descriptors (%s): nothing of it is carried",
			      (int)s->serving->owner, reason);
	}
	if (s->holdings.refused)
		handover_note(s, "%zu descriptors of the old generation are not what they claim to be: not handed over",
			      s->holdings.refused);
	return true;
}

int handover_start_next(struct supervisor *s, bool gated, struct text *why)
{
	struct handover *h = &s->handover;
	struct recipe recipe = s->recipe;
	cleanup_fd int state = -1;

	if (!s->recipe.filtered)
		state = holdings_write(&s->holdings, s->restarts + 1, s->recipe.nonce, h->asked_at);
	if (state < 0 && !s->recipe.filtered) {
		text_format(why, "the state cannot be written: %s", strerror(-state));
		return state;
	}
	recipe.path = h->path ? h->path : recipe.path;
	recipe.comes_back |= s->store.carried_count != 0; /* it makes its queues for them before it forks workers */
	h->next = generation_start(&recipe, &s->holdings, state, gated, true, why);
	if (!h->next)
		return -EAGAIN;
	lives_add(s, h->next, s->restarts + 2);
	return 0;
}

static void set_out(struct supervisor *s, const char *path)
{
	struct handover *h = &s->handover;

	*h = (struct handover){.phase = HANDOVER_STARTING, .check_output = -1, .asked_at = io_now()};
	h->until = h->asked_at + s->options.ready_timeout_s * SECOND;
	h->notes_text = TEXT_ON(h->notes);
	h->path = path ? strdup(path) : NULL;
}

bool handover_attach(struct supervisor *s)
{
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);

	set_out(s, NULL);
	if (!handover_start_next(s, true, &why))
		return true;
	supervisor_say("%s", reason);
	return false;
}

bool handover_is_possible(const struct supervisor *s, struct text *why)
{
	if (s->ending)
		text_add(why, "the supervisor is about to end");
	else if (handover_under_way(s))
		text_add(why, "a restart is under way already");
	else if (!s->serving)
		text_add(why, "the server has crashed, and is about to be started again");
	else if (!s->serving->ready)
		text_add(why, "the server is starting");
	return !why->used;
}

int handover_begin(struct supervisor *s, const char *path, struct text *why)
{
	struct generation *one_too_many;
	int r;

	if (!handover_is_possible(s, why))
		return -EBUSY;
	set_out(s, path);
	tell_phase(s, "starting");
	rollback_give_up(s);
	one_too_many = handover_one_too_many(s);
	if (one_too_many)
		lives_retire(s, one_too_many, s->options.retire_signal);
	if (!collect(s, why))
		r = -EIO;
	else
		r = s->options.one_at_a_time ? turn_begin(s, why) : handover_start_next(s, true, why);
	notify_phase(s, "RELOADING");
	if (r) {
		s->figures.failures++;
		reset(s);
	}
	return r;
}

/* ---- time ---- */

static void too_late(struct supervisor *s)
{
	struct handover *h = &s->handover;
	char reason[2 * REASON_SIZE];
	struct text why = TEXT_ON(reason);

	if (h->phase == HANDOVER_STARTING)
		text_format(&why, "the next generation was not ready within %d s", s->options.ready_timeout_s);
	else
		text_format(&why, "%s, for as long as --ready-timeout lets it (%d s)",
			    *h->unhealthy ? h->unhealthy : "the health check gave no answer",
			    s->options.ready_timeout_s);
	handover_fail(s, reason);
}

void handover_tick(struct supervisor *s, int64_t now)
{
	struct handover *h = &s->handover;

	if (h->phase == HANDOVER_STARTING || h->phase == HANDOVER_CHECKING) {
		if (now >= h->until)
			too_late(s);
		else if (h->check_at && now >= h->check_at)
			begin_check(s);
	} else if (h->phase == HANDOVER_PASSING && now >= h->report_by) {
		handover_passed(s); /* what is carried later is not counted in the answer */
	} else {
		settle_tick(s, now);
		turn_tick(s, now);
		canary_tick(s, now);
	}
}

int64_t handover_due(const struct supervisor *s)
{
	const struct handover *h = &s->handover;
	int64_t at = 0;

	if (h->phase == HANDOVER_STARTING || h->phase == HANDOVER_CHECKING) {
		due(&at, h->until);
		due(&at, h->check_at);
	} else if (h->phase == HANDOVER_PASSING) {
		due(&at, h->report_by);
	} else {
		due(&at, settle_due(s));
		due(&at, turn_due(s));
		due(&at, canary_due(s));
	}
	return at;
}
