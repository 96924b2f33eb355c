/* SPDX-License-Identifier: MIT */
/*
 * --one-at-a-time: a server that keeps data of its own. The old generation ends before the next one starts; meanwhile
 * clients wait in the queues of the listeners, and idle connections wait here.
 */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include "check.h"

#include <errno.h>

static struct generation *leaving(const struct supervisor *s)
{
	for (struct generation *g = s->generations; g; g = g->next)
		if (g->number == s->handover.old)
			return g;
	return NULL;
}

/* There is no way back to the old generation: what can be checked is checked before it ends. */
static int look_at_program(const struct supervisor *s, struct text *why)
{
	const char *path = s->handover.path ? s->handover.path : s->recipe.path;
	char found[PATH_MAX];
	int r = check_find(path, found, why);

	return r ? r : check_served(found, why);
}

int turn_begin(struct supervisor *s, struct text *why)
{
	struct handover *h = &s->handover;
	struct generation *old = s->serving;
	int r = look_at_program(s, why);

	if (!r && h->unreachable) {
		text_add(why, "the old generation does not answer: its listeners cannot be closed to clients");
		r = -ESRCH;
	}
	if (!r)
		r = gates_swap(s, old, NULL, &h->gate_us, why);
	if (r)
		return r;
	h->phase = HANDOVER_LEAVING;
	h->gate_at = io_now();
	h->old = old->number;
	h->until += s->options.drain_s * SECOND;
	s->serving = NULL;
	handover_step_down(old);
	old->phase = GENERATION_DRAINING;
	old->leave_by = io_now() + s->options.drain_s * SECOND;
	passing_begin(s, old, NULL);
	return 0;
}

void turn_take(struct supervisor *s, struct batch *batch)
{
	s->handover.carried += batch->head.count;
	s->figures.carried += batch->head.count;
	for (uint32_t i = 0; i < batch->head.count; i++)
		fdstore_add_carried(s, &batch->fds[i], batch->head.value[i]);
	batch_close(batch);
}

void turn_cut(struct supervisor *s, const struct generation *g)
{
	int64_t left = generation_left(g);

	if (s->handover.phase == HANDOVER_LEAVING && g->number == s->handover.old && left > 0)
		s->handover.cut = (uint32_t)left;
}

/* ---- the next one ---- */

static void start(struct supervisor *s)
{
	struct handover *h = &s->handover;
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);

	if (handover_start_next(s, false, &why)) {
		supervisor_say("%s", reason);
		s->start_again_at = io_now() + SECOND;
		handover_failed(s, reason);
		return;
	}
	s->serving = h->next;
	s->restarts++;
	h->phase = HANDOVER_ARRIVING;
	h->until = io_now() + s->options.ready_timeout_s * SECOND;
}

bool turn_ready(struct supervisor *s)
{
	struct handover *h = &s->handover;

	if (h->phase != HANDOVER_ARRIVING)
		return false;
	if (h->path) { /* what was given by --exec is the program from here on */
		s->recipe.path = h->path;
		h->path = NULL;
	}
	h->gate_us = (io_now() - h->gate_at) / 1000;
	fdstore_tick(s);
	handover_done(s);
	return true;
}

void turn_ended(struct supervisor *s, const struct generation *g)
{
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);

	if (s->handover.phase != HANDOVER_ARRIVING)
		return;
	lives_tell_end(g, &why);
	handover_failed(s, reason);
}

/* ---- the old one does not end ---- */

/* A redis that cannot save its data stays: then it is to serve. */
static void open_again(struct supervisor *s, struct generation *old)
{
	struct handover *h = &s->handover;
	char said[REASON_SIZE], reason[2 * REASON_SIZE];
	struct text inner = TEXT_ON(said), why = TEXT_ON(reason);
	int64_t gate_us;

	text_format(&why, "the old generation, PID %d, has not ended within %d s", (int)old->owner,
		    s->options.drain_s + s->options.ready_timeout_s);
	generation_signal(old, SIGCONT); /* one that is stopped could not answer */
	if (gates_swap(s, NULL, old, &gate_us, &inner)) {
		if (!h->stuck)
			supervisor_say("%s, and does not serve again yet: %s", reason, said);
		h->stuck = true;
		h->until = io_now() + SECOND;
		return;
	}
	passing_call_off(old);
	old->phase = GENERATION_SERVING;
	old->leave_by = 0;
	old->signalled = false;
	s->serving = old;
	supervisor_say("the restart was called off: %s", reason);
	handover_failed(s, reason);
	fdstore_tick(s);
}

void turn_tick(struct supervisor *s, int64_t now)
{
	struct handover *h = &s->handover;
	struct generation *old = leaving(s);

	if (h->phase == HANDOVER_LEAVING) {
		if (!old)
			start(s);
		else if (h->until && now >= h->until)
			open_again(s, old);
	} else if (h->phase == HANDOVER_ARRIVING && now >= h->until) {
		handover_failed(s, "the next generation is not ready yet; it goes on starting");
	}
}

int64_t turn_due(const struct supervisor *s)
{
	enum handover_phase phase = s->handover.phase;

	return phase == HANDOVER_LEAVING || phase == HANDOVER_ARRIVING ? s->handover.until : 0;
}
