/* SPDX-License-Identifier: MIT */
/* All that a supervisor knows, as it crosses an exec of itself: which member of which struct. */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include "launch.h"
#include "saved.h"
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What stands in the supervisor's struct otherwise than it crosses. */
struct rest {
	struct supervisor *s;
	struct generation *last; /* the one that is read */
	char *line;              /* of the watched files, the one that is read */
	int serving;             /* its number; 0: none */
	int holdings;            /* their own state */
	int pidfile;
	char *pidfile_path;
};

#define NUMBER(type, member) SAVED_FIELD(SAVED_NUMBER, type, member)
#define BYTES(type, member) SAVED_FIELD(SAVED_BYTES, type, member)
#define TEXT(type, member) SAVED_FIELD(SAVED_TEXT, type, member)
#define FD(type, member) SAVED_FIELD(SAVED_FD, type, member)

static const struct saved_field supervisor_fields[] = {
	TEXT(struct supervisor, options.path),
	TEXT(struct supervisor, options.test),
	NUMBER(struct supervisor, options.doorbell),
	NUMBER(struct supervisor, options.restart_signal),
	NUMBER(struct supervisor, options.graceful_signal),
	NUMBER(struct supervisor, options.graceful_is_known),
	NUMBER(struct supervisor, options.retire_signal),
	NUMBER(struct supervisor, options.ready_timeout_s),
	NUMBER(struct supervisor, options.drain_s),
	NUMBER(struct supervisor, options.rollback_s),
	NUMBER(struct supervisor, options.generations),
	NUMBER(struct supervisor, options.canary_percent),
	NUMBER(struct supervisor, options.canary_s),
	NUMBER(struct supervisor, options.crash_limit),
	NUMBER(struct supervisor, options.crash_window_s),
	NUMBER(struct supervisor, options.fdstore),
	NUMBER(struct supervisor, options.store_max),
	NUMBER(struct supervisor, options.stop_timeout_s),
	NUMBER(struct supervisor, options.filtered),
	NUMBER(struct supervisor, options.one_at_a_time),
	TEXT(struct supervisor, options.health.path),
	NUMBER(struct supervisor, options.health.status),
	TEXT(struct supervisor, options.health.command),
	TEXT(struct supervisor, recipe.path),
	TEXT(struct supervisor, recipe.directory),
	BYTES(struct supervisor, recipe.mask),
	BYTES(struct supervisor, recipe.files),
	NUMBER(struct supervisor, recipe.nonce),
	NUMBER(struct supervisor, recipe.comes_back),
	NUMBER(struct supervisor, says_no_rights),
	BYTES(struct supervisor, watch.listener),
	NUMBER(struct supervisor, watch.at),
	FD(struct supervisor, notify.sock),
	NUMBER(struct supervisor, notify.said_ready),
	NUMBER(struct supervisor, notify.spoken),
	FD(struct supervisor, address),
	FD(struct supervisor, files),
	NUMBER(struct supervisor, changed_at),
	NUMBER(struct supervisor, started_at),
	NUMBER(struct supervisor, proven),
	NUMBER(struct supervisor, status),
	NUMBER(struct supervisor, restarts),
	NUMBER(struct supervisor, last_restart_us),
	NUMBER(struct supervisor, last_gate_us),
	NUMBER(struct supervisor, figures.restarts),
	NUMBER(struct supervisor, figures.failures),
	NUMBER(struct supervisor, figures.rollbacks),
	NUMBER(struct supervisor, figures.crashes),
	NUMBER(struct supervisor, figures.carried),
	NUMBER(struct supervisor, figures.cut),
	BYTES(struct supervisor, figures.took),
	BYTES(struct supervisor, figures.gate),
	NUMBER(struct supervisor, refresh_at),
	NUMBER(struct supervisor, refreshes),
	NUMBER(struct supervisor, start_again_at),
	NUMBER(struct supervisor, crashes),
	NUMBER(struct supervisor, first_crash_at),
};

static const struct saved_field generation_fields[] = {
	NUMBER(struct generation, number),
	NUMBER(struct generation, phase),
	NUMBER(struct generation, started),
	NUMBER(struct generation, owner),
	NUMBER(struct generation, started_at),
	NUMBER(struct generation, ready),
	NUMBER(struct generation, reported),
	BYTES(struct generation, report),
	NUMBER(struct generation, notified),
	NUMBER(struct generation, pings),
	NUMBER(struct generation, ended),
	NUMBER(struct generation, signalled),
	NUMBER(struct generation, status),
	NUMBER(struct generation, search_until),
	NUMBER(struct generation, owed),
	NUMBER(struct generation, leave_by),
	NUMBER(struct generation, graceful),
	FD(struct generation, take),
	FD(struct generation, passing.listener),
	NUMBER(struct generation, passing.expected),
	NUMBER(struct generation, passing.all_asked),
	NUMBER(struct generation, passing.swept),
	NUMBER(struct generation, passing.sweep_by),
	NUMBER(struct generation, passing.look_at),
	NUMBER(struct generation, passing.swept_at),
	NUMBER(struct generation, passing.graceful_at),
	NUMBER(struct generation, passing.mute),
	FD(struct generation, notices),
	FD(struct generation, pidfd),
	NUMBER(struct generation, listened_at),
	NUMBER(struct generation, carried),
	NUMBER(struct generation, helpers),
	NUMBER(struct generation, helpers_at),
};

static const struct saved_field line_fields[] = {
	FD(struct line, fd),
	NUMBER(struct line, pid),
	NUMBER(struct line, known),
	NUMBER(struct line, left),
};

static const struct saved_field member_fields[] = {
	NUMBER(struct member, pid),
	NUMBER(struct member, start_time),
};

static const struct saved_field bound_fields[] = {
	NUMBER(struct bound, ino),  TEXT(struct bound, name),  NUMBER(struct bound, kept),
	NUMBER(struct bound, listens), NUMBER(struct bound, pid), NUMBER(struct bound, number),
};

static const struct saved_field caller_fields[] = {
	FD(struct caller, line),      NUMBER(struct caller, asked),    NUMBER(struct caller, waits_for_drain),
	NUMBER(struct caller, drains), NUMBER(struct caller, reexecs), NUMBER(struct caller, until),
};

static const struct saved_field watched_fields[] = {TEXT(struct rest, line)};

static const struct saved_field stored_fields[] = {{"ino", SAVED_NUMBER, 0, sizeof(uint64_t)}};

static const struct saved_field rest_fields[] = {
	NUMBER(struct rest, serving),
	FD(struct rest, holdings),
	FD(struct rest, pidfile),
	TEXT(struct rest, pidfile_path),
};

/* ---- writing ---- */

#define PUT(saver, name, of, fields)                                                                                   \
	do {                                                                                                           \
		saver_section(saver, name);                                                                            \
		saver_fields(saver, of, fields, countof(fields));                                                      \
	} while (0)

static void put_generation(struct saver *saver, const struct generation *g)
{
	PUT(saver, "generation", g, generation_fields);
	for (size_t i = 0; i < g->passing.count; i++)
		PUT(saver, "line", &g->passing.lines[i], line_fields);
	for (size_t i = 0; i < g->member_count; i++)
		PUT(saver, "member", &g->members[i], member_fields);
	for (size_t i = 0; i < g->bounds.count; i++)
		PUT(saver, "bound", &g->bounds.all[i], bound_fields);
}

int knowledge_write(const struct supervisor *s, struct saver *saver, int memfds[2])
{
	cleanup_fd int holdings = holdings_write(&s->holdings, s->restarts + 1, s->recipe.nonce, io_now());
	struct rest rest = {.serving = s->serving ? s->serving->number : 0, .holdings = holdings};
	int state;

	if (holdings < 0)
		return holdings;
	rest.pidfile = launch_pidfile_held((const char **)&rest.pidfile_path);
	PUT(saver, "supervisor", s, supervisor_fields);
	for (size_t i = 0; i < s->options.watched_count; i++) {
		rest.line = s->options.watched[i];
		PUT(saver, "watched", &rest, watched_fields);
	}
	for (const struct generation *g = s->generations; g; g = g->next)
		put_generation(saver, g);
	for (size_t i = 0; i < CALLERS_MAX; i++)
		if (s->callers[i].line >= 0)
			PUT(saver, "caller", &s->callers[i], caller_fields);
	for (size_t i = 0; i < s->store.count; i++)
		PUT(saver, "stored", &s->store.inodes[i], stored_fields);
	PUT(saver, "rest", &rest, rest_fields);
	state = saver_end(saver);
	if (state < 0)
		return state;
	memfds[0] = state;
	memfds[1] = steal_fd(&holdings);
	return 0;
}

/* ---- reading ---- */

/* One more element at the end of an array, all zero. */
static void *longer(void *array, size_t *count, size_t size)
{
	char *all;

	memcpy(&all, array, sizeof(all));
	all = reallocarray(all, *count + 1, size);
	if (!all)
		return NULL;
	memcpy(array, &all, sizeof(all));
	return memset(all + (*count)++ * size, 0, size);
}

static void *begin_supervisor(void *arg)
{
	return ((struct rest *)arg)->s;
}

static void *begin_generation(void *arg)
{
	struct rest *rest = arg;
	struct generation **end = &rest->s->generations;

	while (*end)
		end = &(*end)->next;
	*end = rest->last = generation_new();
	return rest->last;
}

static void *begin_line(void *arg)
{
	struct rest *rest = arg;
	struct passing *p = rest->last ? &rest->last->passing : NULL;
	struct line *line = p ? longer(&p->lines, &p->count, sizeof(*line)) : NULL;

	if (line)
		line->fd = -1;
	return line;
}

static void *begin_member(void *arg)
{
	struct generation *g = ((struct rest *)arg)->last;

	return g ? longer(&g->members, &g->member_count, sizeof(*g->members)) : NULL;
}

static void *begin_bound(void *arg)
{
	struct generation *g = ((struct rest *)arg)->last;

	return g ? longer(&g->bounds.all, &g->bounds.count, sizeof(*g->bounds.all)) : NULL;
}

static void *begin_caller(void *arg)
{
	struct supervisor *s = ((struct rest *)arg)->s;

	for (size_t i = 0; i < CALLERS_MAX; i++)
		if (s->callers[i].line < 0)
			return &s->callers[i];
	return NULL;
}

static void *begin_stored(void *arg)
{
	struct store *store = &((struct rest *)arg)->s->store;

	return longer(&store->inodes, &store->count, sizeof(*store->inodes));
}

/* The line before this one is the last of the list. */
static bool take_line(struct rest *rest)
{
	struct supervisor_options *o = &rest->s->options;
	char **file = rest->line ? longer(&o->watched, &o->watched_count, sizeof(*file)) : NULL;

	if (file)
		*file = rest->line;
	else if (rest->line)
		return false;
	rest->line = NULL;
	return true;
}

static void *begin_watched(void *arg)
{
	return take_line(arg) ? arg : NULL;
}

static void *begin_rest(void *arg)
{
	return arg;
}

static const struct saved_section sections[] = {
	{"supervisor", supervisor_fields, countof(supervisor_fields), begin_supervisor},
	{"generation", generation_fields, countof(generation_fields), begin_generation},
	{"line", line_fields, countof(line_fields), begin_line},
	{"member", member_fields, countof(member_fields), begin_member},
	{"bound", bound_fields, countof(bound_fields), begin_bound},
	{"caller", caller_fields, countof(caller_fields), begin_caller},
	{"watched", watched_fields, countof(watched_fields), begin_watched},
	{"stored", stored_fields, countof(stored_fields), begin_stored},
	{"rest", rest_fields, countof(rest_fields), begin_rest},
};

static struct generation *numbered(const struct supervisor *s, int number)
{
	struct generation *g = s->generations;

	while (g && g->number != number)
		g = g->next;
	return g;
}

/* `dry`: whether it can be read; nothing else is done. */
int knowledge_read(struct supervisor *s, int state, bool dry, struct text *why)
{
	struct rest rest = {.s = s, .holdings = -1, .pidfile = -1};
	int r;

	s->address = s->files = s->notify.sock = -1;
	for (size_t i = 0; i < CALLERS_MAX; i++)
		s->callers[i].line = -1;
	for (size_t i = 0; i < REPORTERS_MAX; i++)
		s->reporters[i].line = -1;
	r = saved_read(state, sections, countof(sections), &rest, dry, why);
	if (!r && !take_line(&rest))
		r = -ENOMEM;
	if (!r && !s->recipe.path) {
		text_add(why, "the supervisor itself is not in it");
		r = -EBADMSG;
	}
	if (!r)
		r = holdings_resume(&s->holdings, rest.holdings, dry, why);
	if (r || dry)
		return r;
	io_close(&rest.holdings);
	s->serving = rest.serving ? numbered(s, rest.serving) : NULL;
	if (rest.pidfile >= 0)
		launch_pidfile_resume(rest.pidfile, rest.pidfile_path);
	return 0;
}
