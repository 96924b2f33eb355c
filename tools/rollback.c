/* SPDX-License-Identifier: MIT */
/* The way back: the old generation is kept, complete behind its gate, and takes over again. */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include <string.h>

static struct generation *kept(const struct supervisor *s)
{
	for (struct generation *g = s->generations; g; g = g->next)
		if (g->phase == GENERATION_KEPT && !g->ended)
			return g;
	return NULL;
}

static void stop_watching(struct supervisor *s)
{
	if (s->watch.check > 0)
		kill(s->watch.check, SIGKILL); /* reaped as a child that is no generation's */
	io_close(&s->watch.output);
	s->watch = (struct watch){.output = -1};
}

void rollback_watch(struct supervisor *s, const char *listener)
{
	stop_watching(s);
	if (!health_is_wanted(&s->options.health))
		return;
	strcpy(s->watch.listener, listener);
	s->watch.at = io_now() + SECOND;
}

void rollback_give_up(struct supervisor *s)
{
	struct generation *old = kept(s);

	stop_watching(s);
	if (old)
		handover_drain(s, old);
}

/* The old one serves, and the new one, if it lives, goes on with what it has only. */
static void take_back(struct supervisor *s, struct generation *old)
{
	struct generation *new = s->serving;

	s->figures.rollbacks++;
	stop_watching(s);
	passing_call_off(old);
	old->phase = GENERATION_SERVING;
	old->leave_by = 0;
	s->serving = old;
	if (new && !new->ended) {
		io_close(&new->take);
		new->take = -1;
		generation_note_members(new);
		new->phase = GENERATION_DRAINING; /* before its first words come */
		passing_begin(s, new, old);
		handover_drain(s, new);
	}
	s->refreshes = 0;
	reports_refresh_soon(s, io_now() + SECOND);
}

int rollback(struct supervisor *s, int64_t *gate_us, struct text *why)
{
	struct generation *old = kept(s);

	if (s->handover.phase == HANDOVER_CANARY) {
		*gate_us = s->handover.gate_us;
		handover_fail(s, "it was rolled back");
		return s->serving ? 0 : -1;
	}
	if (handover_under_way(s)) {
		text_add(why, "a restart is under way");
		return -1;
	}
	if (!old && s->options.rollback_s)
		text_format(why, "no old generation is kept: it is for %d s after a restart (--rollback)",
			    s->options.rollback_s);
	else if (!old)
		text_add(why, "no old generation is kept: start the supervisor with --rollback SEC");
	if (!old || gates_swap(s, s->serving, old, gate_us, why))
		return -1;
	take_back(s, old);
	return 0;
}

bool rollback_after_end(struct supervisor *s)
{
	struct generation *old = kept(s);
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);
	int64_t gate_us;

	if (!old)
		return false;
	if (gates_swap(s, NULL, old, &gate_us, &why)) {
		supervisor_say("the old generation, PID %d, cannot take over again: %s", (int)old->owner, reason);
		return false;
	}
	take_back(s, old);
	supervisor_say("the new generation has ended: generation %d, PID %d, serves again", old->number,
		       (int)old->owner);
	return true;
}

static void begin_check(struct supervisor *s)
{
	struct watch *w = &s->watch;
	pid_t pid;

	w->at = 0;
	io_close(&w->output);
	w->output = -1;
	pid = health_begin(&s->options.health, w->listener, &s->recipe.mask, &w->output);
	if (pid > 0)
		w->check = pid;
	else
		w->at = io_now() + SECOND;
}

void rollback_checked(struct supervisor *s, int status)
{
	char reason[2 * REASON_SIZE], more[REASON_SIZE];
	struct text why = TEXT_ON(reason), failed = TEXT_ON(more);
	int64_t gate_us;

	s->watch.check = 0;
	if (!status) {
		s->watch.at = io_now() + SECOND;
		return;
	}
	health_reason(s->watch.output, status, &why);
	if (rollback(s, &gate_us, &failed))
		supervisor_say("%s; the old generation cannot take over again: %s", reason, more);
	else
		supervisor_say("%s: generation %d, PID %d, serves again", reason, s->serving->number,
			       (int)s->serving->owner);
}

void rollback_tick(struct supervisor *s, int64_t now)
{
	struct generation *old = kept(s);

	if (s->watch.at && now >= s->watch.at)
		begin_check(s);
	if (old && old->leave_by && now >= old->leave_by)
		rollback_give_up(s);
}
