/* SPDX-License-Identifier: MIT */
/*
 * Generations of programs that cannot be preloaded: they have no gate, no report and no door. From its listen on, a
 * generation accepts beside the old one, which gets its signal to leave when the new one is ready.
 */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include "lingering.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum {
	QUIET_MS = 100,     /* a first generation that has opened nothing more for so long is ready */
	PATIENCE_MS = 2000, /* ... and one that has not asked for all that is kept, after so long */
	LOCKS_MS = 100,     /* between two looks for a lock */
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

/* It listens, but has not said READY=1, as the one before did: a word that may wait for the old one's end. */
static bool is_awaited(const struct supervisor *s)
{
	const struct generation *g = s->handover.next;

	return s->recipe.filtered && s->handover.phase == HANDOVER_STARTING && g->reported && !g->ready && !g->ended &&
	       s->serving && !s->serving->ended;
}

int64_t gateless_due(const struct supervisor *s)
{
	int64_t at = 0;

	for (const struct generation *g = s->generations; s->recipe.filtered && g; g = g->next)
		due(&at, ready_at(s, g));
	if (is_awaited(s))
		due(&at, s->handover.polled_at ? s->handover.polled_at : io_now());
	return at;
}

/*
 * A data base that one process may open at a time: the next one listens, and waits for the old one's lock (etcd). What
 * clients ask meanwhile waits in the listeners that both have.
 */
static void look_for_lock(struct supervisor *s, int64_t now)
{
	struct generation *g = s->handover.next;
	char path[256];

	if (!is_awaited(s) || now < s->handover.polled_at)
		return;
	s->handover.polled_at = now + LOCKS_MS * MS;
	if (!locks_keep_out(g->owner, s->serving->owner, path, sizeof(path)))
		return;
	s->handover.waits_for_end = true;
	handover_note(s, "%s is locked by the old generation: it is told to leave before the next one says READY=1",
		      path);
	reports_become_ready(s, g);
}

void gateless_tick(struct supervisor *s, int64_t now)
{
	look_for_lock(s, now);
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

static int graceful(const struct supervisor *s)
{
	return s->options.graceful_signal ? s->options.graceful_signal : s->options.retire_signal;
}

void gateless_linger(struct supervisor *s, const struct generation *old)
{
	cleanup_free pid_t *pids = calloc(old->member_count + 1, sizeof(*pids));
	uint64_t keys[PROTOCOL_KEYS_MAX];
	size_t key_count = holdings_keys(&s->holdings, keys, countof(keys));

	for (size_t i = 0; pids && i < old->member_count; i++)
		pids[i] = old->members[i].pid;
	if (pids)
		lingering_begin(&s->lingering, pids, old->member_count, keys, key_count);
}

/* A server takes its socket's path away as it ends: its unlink(2) waits for an answer, and its clients for that. */
static void answer_calls(void *arg)
{
	struct supervisor *s = arg;

	for (struct generation *g = s->generations; g; g = g->next) {
		struct pollfd on = {.fd = g->notices, .events = POLLIN};

		if (poll(&on, 1, 0) > 0)
			notices_take(s, g);
	}
}

/* A server that was there before has served until now: from here on the first generation of ours does. */
void gateless_follow_attached(struct supervisor *s)
{
	struct generation old = {.owner = s->options.attach->pid};

	generation_note_members(&old);
	gateless_linger(s, &old);
	attach_dismiss(s->options.attach, graceful(s));
	lingering_watch(&s->lingering, answer_calls, s);
	notify_ready(s);
	free(old.members);
}

/* It has no gate to close: it gets its signal to leave, since both accept until it has left. */
void gateless_dismiss(struct supervisor *s, struct generation *old)
{
	int signo = graceful(s);

	old->phase = GENERATION_DRAINING;
	old->signalled = true;
	gateless_linger(s, old);
	generation_signal(old, signo);
	lingering_watch(&s->lingering, answer_calls, s);
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
