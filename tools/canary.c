/* SPDX-License-Identifier: MIT */
/*
 * --canary: for a while the next generation takes a share of the new clients, and the old one the rest. They take turns
 * with the gates, so that at any moment one of them takes new work: what a client speaks does not matter. The turns are
 * as long as the share says.
 */
#define _GNU_SOURCE
#include "supervisor_inside.h"

enum {
	PERIOD_MS = 500,  /* a turn of each */
	SHORTER_MS = 50,  /* of the one that has less: the period is longer for it */
	SHORTEST_MS = 25,
	KNOCKS_MS = 50,   /* what is carried to the old one is accepted by then */
	AGAIN_MS = 20,
};

bool canary_is_wanted(const struct supervisor *s)
{
	return s->options.canary_percent && s->serving && !s->serving->ended && !s->handover.unreachable &&
	       holdings_count(&s->holdings);
}

bool canary_is_open(const struct supervisor *s)
{
	return s->handover.phase == HANDOVER_CANARY && s->handover.canary.open;
}

void canary_begin(struct supervisor *s)
{
	struct canary *c = &s->handover.canary;
	char text[128];
	struct text t = TEXT_ON(text);
	int64_t now = io_now();

	s->handover.phase = HANDOVER_CANARY;
	*c = (struct canary){.began = now, .changed = now, .turn_at = now, .check_at = now};
	c->until = now + s->options.canary_s * SECOND;
	protocol_put(&t, "result", "progress");
	protocol_put(&t, "phase", "canary");
	protocol_put_int(&t, "more_s", s->options.canary_s);
	callers_tell(s, text, t.used, false);
}

/* ---- turns ---- */

/* The next one gets what brings its share to what was asked for by the end of the period, the old one what does so by
 * the end of its turn. */
static int64_t turn_length(const struct supervisor *s)
{
	const struct canary *c = &s->handover.canary;
	int64_t percent = s->options.canary_percent, less = percent < 50 ? percent : 100 - percent;
	int64_t period = (SHORTER_MS * 100 / less > PERIOD_MS ? SHORTER_MS * 100 / less : PERIOD_MS) * MS;
	int64_t usual = period / 100 * (c->open ? percent : 100 - percent), all = c->changed - c->began, length;

	length = c->open ? (all + period) / 100 * percent - c->taken : c->taken / percent * 100 - all;
	if (length > 2 * usual)
		length = 2 * usual;
	return length > SHORTEST_MS * MS ? length : SHORTEST_MS * MS;
}

/* Clients that came while no gate was open are the next turn's. */
static void note_turn(struct supervisor *s, int64_t gate_us)
{
	struct handover *h = &s->handover;
	struct canary *c = &h->canary;
	int64_t now = io_now() - gate_us * 1000;

	if (c->open)
		c->taken += now - c->changed;
	c->changed = now;
	c->open = !c->open;
	c->has_taken = true;
	h->gate_us = gate_us > h->gate_us ? gate_us : h->gate_us;
	c->turn_at = now + turn_length(s);
}

static void take_turns(struct supervisor *s, int64_t now)
{
	struct handover *h = &s->handover;
	struct canary *c = &h->canary;
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);
	int64_t gate_us;

	if (!c->open && (s->has_pending || now - s->passed_at < KNOCKS_MS * MS)) {
		c->turn_at = now + AGAIN_MS * MS;
		return;
	}
	if (c->open && h->check > 0) { /* the other one would answer it */
		c->turn_at = now + AGAIN_MS * MS;
		return;
	}
	text_add(&why, "the gates could not be changed: ");
	if (!gates_swap(s, c->open ? h->next : s->serving, c->open ? s->serving : h->next, &gate_us, &why)) {
		note_turn(s, gate_us);
		return;
	}
	c->open = c->has_taken = true; /* it may have opened its gate before it failed to say so */
	handover_fail(s, reason);
}

/* ---- health: asked while the next one has its turn ---- */

static void begin_check(struct supervisor *s)
{
	struct handover *h = &s->handover;

	h->canary.check_at = 0;
	io_close(&h->check_output);
	h->check_output = -1;
	h->check = health_begin(&s->options.health, h->listener, &s->recipe.mask, &h->check_output);
	if (h->check > 0)
		return;
	h->check = 0;
	h->canary.check_at = io_now() + SECOND;
}

void canary_checked(struct supervisor *s, int status)
{
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);

	s->handover.canary.check_at = io_now() + SECOND;
	if (!status)
		return;
	health_reason(s->handover.check_output, status, &why);
	handover_fail(s, reason);
}

void canary_tick(struct supervisor *s, int64_t now)
{
	struct canary *c = &s->handover.canary;

	if (s->handover.phase != HANDOVER_CANARY)
		return;
	if (!s->serving || now >= c->until) /* the old one has died, or nothing has been found wrong */
		handover_go(s);
	else if (now >= c->turn_at)
		take_turns(s, now);
	else if (c->open && c->check_at && now >= c->check_at && health_is_wanted(&s->options.health))
		begin_check(s);
}

int64_t canary_due(const struct supervisor *s)
{
	const struct canary *c = &s->handover.canary;
	int64_t at = 0;

	if (s->handover.phase != HANDOVER_CANARY)
		return 0;
	due(&at, s->serving ? c->until : io_now());
	due(&at, c->turn_at);
	if (c->open && health_is_wanted(&s->options.health))
		due(&at, c->check_at);
	return at;
}

/* ---- the way back ---- */

static void end_at_once(struct generation *g, const char *what, const char *reason)
{
	supervisor_say("PID %d does not %s, and is ended: %s", (int)g->owner, what, reason);
	generation_note_members(g);
	generation_signal(g, SIGKILL);
	generation_signal_members(g, SIGKILL);
}

/*
 * It must not take clients beside the old one: one that does not close its gate is ended. So is an old one that does
 * not open its own: it is started again then.
 */
static void close_gate(struct supervisor *s, struct generation *next)
{
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);
	int64_t gate_us;

	if (!gates_swap(s, next->ended ? NULL : next, s->serving, &gate_us, &why))
		return;
	why = TEXT_ON(reason); /* which of the two it is */
	if (!next->ended && gates_swap(s, next, NULL, &gate_us, &why)) {
		end_at_once(next, "close its gate", reason);
		next->ended = true;
	}
	why = TEXT_ON(reason);
	if (gates_swap(s, NULL, s->serving, &gate_us, &why))
		end_at_once(s->serving, "open its gate again", reason);
}

bool canary_give_back(struct supervisor *s)
{
	struct generation *next = s->handover.next;
	struct canary *c = &s->handover.canary;

	if (s->handover.phase != HANDOVER_CANARY || !c->has_taken || !s->serving || s->ending)
		return false;
	if (c->open)
		close_gate(s, next);
	c->open = false;
	if (next->ended)
		return false;
	s->restarts++; /* its number is taken while it drains */
	handover_step_down(next);
	next->phase = GENERATION_DRAINING;
	passing_begin(s, next, s->serving);
	handover_drain(s, next);
	return true;
}
