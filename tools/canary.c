/* SPDX-License-Identifier: MIT */
/*
 * --canary: for a while the next generation takes a share of the new clients, and the old one the rest. They take turns
 * with the gates, so only one of them takes new work at any moment. It does not matter which protocol a client speaks.
 * A turn ends after a number of accepted clients, according to the share. Turns of a fixed time would share time, and
 * not clients: clients come in bursts, and a benchmark is over before the second turn. Where clients cannot be counted
 * (datagrams), time is used.
 */
#define _GNU_SOURCE
#include "supervisor_inside.h"

enum {
	CLIENTS = 200,    /* a turn of each: the next one has two at the least */
	LIMIT_MS = 5000,  /* of a turn that is counted, in time: its end may not be told */
	PERIOD_MS = 500,  /* a turn of each, by time */
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

static bool has_datagrams(const struct supervisor *s)
{
	for (const struct entry *e = table_first(s->holdings.table); e; e = table_after(e))
		if (e->kind != ENTRY_STREAM)
			return true;
	return false;
}

void canary_begin(struct supervisor *s)
{
	struct canary *c = &s->handover.canary;
	char text[128];
	struct text t = TEXT_ON(text);
	int64_t now = io_now();

	s->handover.phase = HANDOVER_CANARY;
	*c = (struct canary){.by_time = has_datagrams(s), .changed = now, .turn_at = now, .check_at = now};
	c->until = now + s->options.canary_s * SECOND;
	protocol_put(&t, "result", "progress");
	protocol_put(&t, "phase", "canary");
	protocol_put_int(&t, "more_s", s->options.canary_s);
	callers_tell(s, text, t.used, false);
}

/* ---- turns ---- */

static int64_t period(const struct supervisor *s)
{
	int64_t percent = s->options.canary_percent, less = percent < 50 ? percent : 100 - percent;

	if (!s->handover.canary.by_time)
		return CLIENTS;
	return (SHORTER_MS * 100 / less > PERIOD_MS ? SHORTER_MS * 100 / less : PERIOD_MS) * MS;
}

/*
 * The next generation gets the clients with which its share is right at the end of the period. The old one gets those
 * with which it is right at the end of its turn.
 */
static int64_t turn_length(const struct supervisor *s, bool of_next)
{
	const struct canary *c = &s->handover.canary;
	int64_t percent = s->options.canary_percent, least = c->by_time ? SHORTEST_MS * MS : 1;
	int64_t length = of_next ? (c->all + period(s)) * percent / 100 - c->taken : c->taken * 100 / percent - c->all;

	return length > least ? length : least;
}

/* The first turn of all is the next one's: what the old one had before is not counted. */
uint32_t canary_next_turn(struct supervisor *s, int64_t accepted)
{
	struct canary *c = &s->handover.canary;
	int64_t counted = accepted > UINT32_MAX ? UINT32_MAX : accepted; /* a generation says so */
	int64_t had = c->by_time ? io_now() - c->changed : counted, clients;

	if (s->handover.phase != HANDOVER_CANARY || c->over)
		return 0;
	if (c->widened)
		return UINT32_MAX;
	if (accepted < 0 && !c->by_time) /* an older library does not count */
		c->by_time = true;
	else if (c->has_taken) {
		c->all += had;
		c->taken += c->open ? had : 0;
	}
	clients = c->by_time ? 0 : turn_length(s, !c->open);
	c->clients = clients > UINT32_MAX ? UINT32_MAX : (uint32_t)clients;
	return c->clients;
}

void canary_turn_is_over(struct supervisor *s, const struct generation *g)
{
	struct canary *c = &s->handover.canary;

	if (s->handover.phase != HANDOVER_CANARY || !c->has_taken || g != (c->open ? s->handover.next : s->serving))
		return;
	c->turn_at = io_now();
	c->reached = true;
}

/* Clients that came while no gate was open are the next turn's. */
static void note_turn(struct supervisor *s, int64_t gate_us)
{
	struct handover *h = &s->handover;
	struct canary *c = &h->canary;
	int64_t now = io_now();

	c->changed = now - gate_us * 1000;
	c->open = !c->open;
	c->has_taken = true;
	c->reached = false;
	h->gate_us = gate_us > h->gate_us ? gate_us : h->gate_us;
	c->turn_at = c->by_time ? c->changed + turn_length(s, c->open) : now + LIMIT_MS * MS;
}

/*
 * The turn of the next generation is over, but its health check is not. So it takes more than its turn, and the old
 * one's next turn makes up for that. Else the check and all clients would wait: after a turn, accept() takes nothing
 * for up to a second (process/share.c).
 */
static void widen_turn(struct supervisor *s)
{
	struct canary *c = &s->handover.canary;
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);
	int64_t gate_us;

	c->reached = false;
	c->taken += c->clients; /* counted anew from here on */
	c->widened = true;
	if (gates_swap(s, NULL, s->handover.next, &gate_us, &why))
		supervisor_say("the turn of the next generation could not be made longer: %s", reason);
	c->widened = false;
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
		if (c->reached)
			widen_turn(s);
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

	if (!gates_swap(s, next->ended || !s->handover.canary.open ? NULL : next, s->serving, &gate_us, &why))
		return; /* or the old one's turn has no end any more */
	why = TEXT_ON(reason); /* which of the two it is */
	if (!next->ended && s->handover.canary.open && gates_swap(s, next, NULL, &gate_us, &why)) {
		end_at_once(next, "close its gate", reason);
		next->ended = true;
	}
	why = TEXT_ON(reason);
	/* in its own turn its gate is open: what is not taken off then is the limit, and that holds for a second */
	if (gates_swap(s, NULL, s->serving, &gate_us, &why) && s->handover.canary.open)
		end_at_once(s->serving, "open its gate again", reason);
}

bool canary_give_back(struct supervisor *s)
{
	struct generation *next = s->handover.next;
	struct canary *c = &s->handover.canary;

	if (s->handover.phase != HANDOVER_CANARY || !c->has_taken || !s->serving || s->ending)
		return false;
	c->over = true;
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
