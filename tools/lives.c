/* SPDX-License-Identifier: MIT */
/* The life of a server's generations: how one starts, how it is ended, and what its end means. */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include "own.h"
#include "proc.h"

#include <err.h>
#include <malloc.h>
#include <stdarg.h>
#include <sys/wait.h>

enum {
	ALONE_MS = 500,
	DAEMON_MS = 3000, /* for the child of a daemonising process to be found */
	BACKOFF_MS = 100,
	BACKOFF_MAX_MS = 10000,
};

void supervisor_say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vwarnx(format, args);
	va_end(args);
}

/* ---- generations ---- */

void lives_add(struct supervisor *s, struct generation *g, int number)
{
	g->number = number;
	g->next = s->generations;
	s->generations = g;
}

/* It may have removed pid files that it had written over those of the one that serves. */
static void tell_alone(const struct supervisor *s)
{
	cleanup_answer struct answer answer = ANSWER_NONE;
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);

	if (s->serving && !s->serving->ended && !s->ending && !s->recipe.filtered)
		client_ask(s->serving->owner, PROTOCOL_ALONE, ALONE_MS, false, &answer, &why);
}

void lives_remove(struct supervisor *s, struct generation *g)
{
	struct generation **at = &s->generations;

	if (g->phase == GENERATION_FAILED)
		tell_alone(s);

	while (*at && *at != g)
		at = &(*at)->next;
	if (*at)
		*at = g->next;
	callers_drained(s, g->number);
	generation_free(g);
	malloc_trim(0); /* a handover takes much for a moment, and the next one may be months away */
}

static bool is_old(const struct generation *g)
{
	return g->phase == GENERATION_DRAINING || g->phase == GENERATION_RETIRING || g->phase == GENERATION_KEPT;
}

size_t lives_draining(const struct supervisor *s, uint32_t *connections)
{
	size_t n = 0;

	*connections = 0;
	for (const struct generation *g = s->generations; g; g = g->next)
		if (is_old(g)) {
			n++;
			*connections += generation_left(g) > 0 ? (uint32_t)generation_left(g) : 0;
		}
	return n;
}

int lives_stop_timeout(const struct supervisor *s)
{
	return s->options.stop_timeout_s ? s->options.stop_timeout_s : KILL_AFTER_S;
}

/* Told to leave: killed after --stop-timeout, or at the end of its drain if that is later. */
void lives_retire(struct supervisor *s, struct generation *g, int signo)
{
	int64_t by = io_now() + lives_stop_timeout(s) * SECOND;

	if ((g->phase == GENERATION_DRAINING || g->phase == GENERATION_KEPT) && generation_left(g) > 0)
		s->figures.cut += (uint64_t)generation_left(g);
	if (g->phase != GENERATION_FAILED && g->phase != GENERATION_GATED)
		g->phase = GENERATION_RETIRING;
	g->signalled = true;
	generation_note_members(g);
	if (!g->ended)
		generation_signal(g, signo);
	if (s->options.one_at_a_time) /* it may be saving what it has, for minutes */
		g->leave_by = 0;
	else if (g->leave_by < by)
		g->leave_by = by;
}

/* ---- starting ---- */

static int write_state(struct supervisor *s)
{
	if (!holdings_count(&s->holdings) || s->recipe.filtered)
		return -1;
	return holdings_write(&s->holdings, s->restarts + 1, s->recipe.nonce, io_now());
}

/* The first generation, or the next one after a crash: it serves from its start. */
bool lives_start(struct supervisor *s)
{
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);
	cleanup_fd int state = write_state(s);
	struct recipe recipe = s->recipe;
	struct generation *g;

	recipe.comes_back |= s->store.carried_count != 0; /* it makes its queues for them before it forks workers */
	g = generation_start(&recipe, &s->holdings, state, false, false, &why);
	s->start_again_at = 0;
	if (!g) {
		supervisor_say("%s", reason);
		return false;
	}
	s->restarts += holdings_count(&s->holdings) != 0;
	lives_add(s, g, s->restarts + 1);
	s->serving = g;
	return true;
}

/* It serves, and is no child of ours: its pidfd tells its end. */
bool lives_adopt(struct supervisor *s)
{
	const struct adopt *a = s->options.adopt;
	struct generation *g = generation_new();
	char reason[REASON_SIZE] = "no memory";
	struct text why = TEXT_ON(reason);

	if (!g || !adopt_tell(a, &why)) {
		supervisor_say("PID %d was not adopted: %s", (int)a->pid, reason);
		generation_free(g);
		return false;
	}
	g->owner = a->pid;
	g->pidfd = a->pidfd;
	g->started_at = io_now();
	g->phase = GENERATION_SERVING;
	g->ready = g->reported = s->proven = true;
	s->restarts = a->generation - 1;
	lives_add(s, g, a->generation);
	s->serving = g;
	notify_ready(s);
	reports_refresh_soon(s, io_now() + SECOND);
	return true;
}

/* ---- ends ---- */

static bool ended_well(int status)
{
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

/* Was that wanted? Else it is a crash. */
static bool was_wanted(const struct generation *g)
{
	return g->signalled || ended_well(g->status) ||
	       (WIFSIGNALED(g->status) && (WTERMSIG(g->status) == SIGTERM || WTERMSIG(g->status) == SIGINT));
}

void lives_end_all(struct supervisor *s, int signo)
{
	s->ending = true;
	s->start_again_at = 0;
	reexec_call_off(s, "the supervisor was told to end");
	if (handover_under_way(s))
		handover_fail(s, "the supervisor was told to end");
	for (struct generation *g = s->generations; g; g = g->next)
		if (g != s->serving)
			lives_retire(s, g, s->options.retire_signal);
	if (!s->serving)
		return;
	s->serving->signalled = true;
	generation_note_members(s->serving);
	generation_signal(s->serving, signo);
	generation_signal(s->serving, SIGCONT); /* a stopped server would never handle that signal */
}

/* Started again, with what it held; not at once, when it does so all the time. */
static void crashed(struct supervisor *s, const struct generation *g)
{
	int64_t now = io_now(), pause = BACKOFF_MS;

	s->figures.crashes++;
	if (WIFSIGNALED(g->status))
		supervisor_say("the server, PID %d, was ended by signal %d", (int)g->owner, WTERMSIG(g->status));
	else
		supervisor_say("the server, PID %d, ended with status %d", (int)g->owner, WEXITSTATUS(g->status));
	if (!s->crashes || now - s->first_crash_at > s->options.crash_window_s * SECOND) {
		s->crashes = 0;
		s->first_crash_at = now;
	}
	if (++s->crashes > s->options.crash_limit) {
		supervisor_say("it has crashed %d times in %d s: not started again", s->crashes,
			       s->options.crash_window_s);
		holdings_close(&s->holdings);
		lives_end_all(s, s->options.retire_signal);
		return;
	}
	for (int i = 1; i < s->crashes && pause < BACKOFF_MAX_MS; i++)
		pause *= 2;
	s->start_again_at = now + (s->crashes == 1 ? 0 : pause) * MS;
}

void lives_tell_end(const struct generation *g, struct text *why)
{
	if (WIFSIGNALED(g->status))
		text_format(why, "the next generation was ended by signal %d", WTERMSIG(g->status));
	else
		text_format(why, "the next generation ended with status %d", WEXITSTATUS(g->status));
	text_add(why, g->ready ? ", after it had been ready" : " before it was ready");
}

/* It has died at its first clients. */
static void fail_passing(struct supervisor *s, const struct generation *g)
{
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);

	if (s->handover.phase != HANDOVER_PASSING)
		return;
	lives_tell_end(g, &why);
	handover_failed(s, reason);
}

static void serving_ended(struct supervisor *s, struct generation *g)
{
	s->serving = NULL;
	s->status = g->status;
	g->phase = GENERATION_RETIRING;
	g->leave_by = io_now() + lives_stop_timeout(s) * SECOND;
	generation_signal_members(g, s->options.retire_signal);
	turn_ended(s, g);
	if (!s->ending && rollback_after_end(s))
		return;
	if (!s->ending)
		fail_passing(s, g); /* else it would be under way still, and nothing started again */
	if (s->ending || was_wanted(g) || !s->proven)
		lives_end_all(s, s->options.retire_signal);
	else if (!handover_under_way(s))
		crashed(s, g);
}

static void tell_end(char *text, size_t size, const struct generation *g)
{
	struct text t = text_on(text, size);

	lives_tell_end(g, &t);
	text_add(&t, ". If it cannot run twice at a time, use exec mode for it");
}

static void generation_ended(struct supervisor *s, struct generation *g)
{
	char reason[256];

	g->ended = true;
	g->search_until = 0;
	if (g == s->serving) {
		serving_ended(s, g);
	} else if (g == s->handover.next && g->phase == GENERATION_GATED) {
		tell_end(reason, sizeof(reason), g);
		handover_fail(s, reason);
	} else {
		generation_signal_members(g, s->options.retire_signal);
		g->phase = g->phase == GENERATION_FAILED ? GENERATION_FAILED : GENERATION_RETIRING;
		g->leave_by = g->leave_by ? g->leave_by : io_now() + lives_stop_timeout(s) * SECOND;
	}
}

/* Only its parent learns how it ended: a server that had no signal to end has crashed. */
void lives_adopted_ended(struct supervisor *s, struct generation *g)
{
	io_close(&g->pidfd);
	g->pidfd = -1;
	if (g->ended)
		return;
	g->status = g->signalled ? 0 : W_EXITCODE(EXIT_FAILURE, 0);
	generation_ended(s, g);
}

enum daemon { DAEMON_NONE, DAEMON_SILENT, DAEMON_FOUND };

/* Is this child of ours what a generation that daemonised has become? */
static enum daemon ask_daemon(struct generation *g, pid_t pid)
{
	cleanup_answer struct answer answer = ANSWER_NONE;
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);
	int64_t number, owner;

	if (client_ask(pid, PROTOCOL_STATUS, 500, false, &answer, &why))
		return DAEMON_SILENT;
	if (!protocol_get_int(answer.text, "generation", &number) && number != g->number)
		return DAEMON_NONE;
	/*
	 * a parent of the daemon, which is about to end as well; or the daemon, which has not noticed that its parent
	 * ended, and takes itself for a worker
	 */
	if (protocol_get_int(answer.text, "owner", &owner) || owner != pid)
		return DAEMON_SILENT;
	generation_found(g, pid);
	return DAEMON_FOUND;
}

/* Did what was started leave a child that is the owner now? */
static enum daemon find_daemon(const struct supervisor *s, struct generation *g)
{
	enum daemon best = DAEMON_NONE;
	size_t count;
	cleanup_free pid_t *pids = proc_pids(&count);

	for (size_t i = 0; i < count && best != DAEMON_FOUND; i++) {
		struct proc_page page;
		enum daemon is;

		if (proc_parent(pids[i]) != getpid() || generation_find(s->generations, pids[i]) ||
		    proc_page(pids[i], &page))
			continue;
		is = ask_daemon(g, pids[i]);
		best = is > best ? is : best;
	}
	return best;
}

void lives_search(struct supervisor *s, struct generation *g, int64_t now)
{
	enum daemon is = find_daemon(s, g);

	if (is == DAEMON_NONE) /* a parent that has ended during the look has left a child that was not listed before */
		is = find_daemon(s, g);
	if (is == DAEMON_NONE || (is == DAEMON_SILENT && now >= g->search_until))
		generation_ended(s, g);
}

static void child_ended(struct supervisor *s, pid_t pid, int status)
{
	if (pid == s->handover.check) {
		handover_checked(s, status);
		return;
	}
	if (pid == s->watch.check) {
		rollback_checked(s, status);
		return;
	}
	if (pid == s->reexec.probe) {
		reexec_probed(s, status);
		return;
	}
	for (struct generation *g = s->generations; g; g = g->next) {
		bool was_owner = pid == g->owner, was_started = pid == g->started;

		if (was_started)
			g->started = 0;
		if (g->ended || !(was_owner || (was_started && !g->owner)))
			continue;
		g->status = status;
		/* a daemon's parent that was asked in the moment before it left was the owner for that moment */
		if ((was_started || !g->ready) && ended_well(status) && !g->signalled) {
			g->search_until = io_now() + DAEMON_MS * MS;
			lives_search(s, g, io_now());
		} else {
			generation_ended(s, g);
		}
		return;
	}
}

void lives_reap(struct supervisor *s)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		child_ended(s, pid, status);
}
