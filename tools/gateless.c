/* SPDX-License-Identifier: MIT */
/*
 * Generations that nothing can be preloaded into: they have no gate, no report and no door. From its listen on, a
 * generation accepts beside the old one, which is told to leave as soon as the new one is ready.
 */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	QUIET_MS = 100,     /* a first generation that has opened nothing more for so long is ready */
	PATIENCE_MS = 2000, /* ... and one that has not asked for all that is kept, after so long */
};

static const char ready[] = "result=ready\n";

int gateless_begin(struct supervisor *s)
{
	const char *text = getenv(SETTINGS_RULES), *bad;
	char *copy = text ? strdup(text) : NULL; /* the rules point into it */

	s->recipe.filtered = s->options.filtered;
	return copy ? rules_parse(&s->rules, copy, &bad) : text ? -ENOMEM : 0;
}

static size_t missing(const struct supervisor *s, const struct generation *g)
{
	size_t n = 0;

	for (const struct entry *e = table_first(s->holdings.table); e; e = table_after(e)) {
		const struct bound *b = bounds_find(&g->bounds, e->object.ino);

		n += !b || !b->listens;
	}
	return n;
}

void gateless_listens(struct supervisor *s, struct generation *g, struct bound *b)
{
	b->listens = true;
	g->listened_at = io_now();
	if (g == s->serving)
		reports_refresh_soon(s, g->listened_at + QUIET_MS * MS); /* did the kernel let it? */
}

static int64_t ready_at(const struct supervisor *s, const struct generation *g)
{
	if (!g->listened_at || g->reported || g->ended)
		return 0;
	if (g != s->handover.next)
		return g->listened_at + QUIET_MS * MS;
	return missing(s, g) ? g->listened_at + PATIENCE_MS * MS : g->listened_at;
}

int64_t gateless_due(const struct supervisor *s)
{
	int64_t at = 0;

	for (const struct generation *g = s->generations; s->recipe.filtered && g; g = g->next)
		due(&at, ready_at(s, g));
	return at;
}

void gateless_tick(struct supervisor *s, int64_t now)
{
	for (struct generation *g = s->generations; s->recipe.filtered && g; g = g->next) {
		int64_t at = ready_at(s, g);

		if (!at || now < at)
			continue;
		if (g == s->handover.next && missing(s, g))
			handover_note(s,
				      "%zu descriptors of the old generation were not asked for: taken for ready after "
				      "%d s",
				      missing(s, g), PATIENCE_MS / 1000);
		reports_ready(s, g, ready);
		return; /* the list may be another now */
	}
}

/* It has no gate that could be closed: it is told to leave, since both accept until it does. */
void gateless_dismiss(struct supervisor *s, struct generation *old)
{
	int signo = s->options.graceful_signal ? s->options.graceful_signal : s->options.retire_signal;

	old->phase = GENERATION_DRAINING;
	old->signalled = true;
	generation_signal(old, signo);
	if (signo == s->options.retire_signal && !s->recipe.filtered)
		lives_retire(s, old, signo);
	else
		old->leave_by = io_now() + s->options.drain_s * SECOND;
}

/* The listener itself: there is no other way to it, and the old generation may be the one that answers. */
void gateless_door(const struct supervisor *s, char *door, size_t size)
{
	for (const struct entry *e = table_first(s->holdings.table); e; e = table_after(e))
		if (e->kind == ENTRY_STREAM && strlen(e->name) < size) {
			strcpy(door, e->name);
			return;
		}
}
