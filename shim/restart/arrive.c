/* SPDX-License-Identifier: MIT */
/* Arriving: adopt, settle, report. */
#define _GNU_SOURCE
#include "restart/arrive.h"

#include "process/roster.h"
#include "process/page.h"
#include "process/birth.h"
#include "process/bell.h"
#include "process/children.h"
#include "deliver/queue.h"
#include "base/fds.h"
#include "process/guard.h"
#include "base/io.h"
#include "base/log.h"
#include "base/next.h"
#include "fd/pending.h"
#include "process/startup.h"
#include "base/raw.h"
#include "fd/replay.h"
#include "restart/retire.h"
#include "fd/tagging.h"
#include "model/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS INT64_C(1000000)

enum {
	TICK_MS = 20,          /* while somebody waits for readiness */
	SLOW_TICK_MS = 200,
	CHILDREN_TICK_MS = 5000, /* for children of the last generation that go on: only that they do not stay zombies */
	GREATEST_BACKLOG = 65535, /* the kernel cuts it to somaxconn */
	UNCLAIMED_MS = 2000,   /* it waits for events, but has not asked for everything: ready all the same */
	DAEMON_MS = 3000,
	SILENT_MS = 500,       /* it has everything, but was never seen to wait (it blocks in recv) */
};

static struct {
	int generation;
	int64_t first_at, started_at, asked_at, left_at;
	int64_t waited_at, claimed_at; /* first seen to wait; to have claimed everything */
	int64_t ready_at;
	uint64_t nonce;
	uint32_t cut, carried, closed;
	int64_t drained_at, took_us;
	_Atomic bool ready;
} arrival = {.generation = 1};

_Atomic bool arrive_watch;

int arrive_generation(void)
{
	return arrival.generation;
}

int64_t arrive_first_at(void)
{
	return arrival.first_at;
}

int64_t arrive_started_at(void)
{
	return arrival.started_at;
}

bool arrive_is_ready(void)
{
	return atomic_load(&arrival.ready);
}

struct arrive_last arrive_last(void)
{
	return (struct arrive_last){arrival.took_us, (arrival.drained_at - arrival.asked_at) / 1000, arrival.carried, arrival.closed, arrival.cut};
}

/* ---- adopting ---- */

static int state_fd(void)
{
	const char *value = getenv(SETTINGS_STATE_FD);
	int fd = 0;

	if (!value)
		return -1;
	for (const char *at = value; *at; at++) {
		if (*at < '0' || *at > '9' || fd > 100000000) {
			log_warn("%s=%s is not a descriptor", SETTINGS_STATE_FD, value);
			fd = -1;
			break;
		}
		fd = fd * 10 + (*at - '0');
	}
	unsetenv(SETTINGS_STATE_FD);
	return fd;
}

static bool is_sound(const struct entry *e)
{
	struct object now;

	return !object_of(e->fd, &now) && object_same(&now, &e->object);
}

/*
 * Of a stranger: it stands where something was closed behind the last generation's back, which opened its way through the exec without a look (state.unseen), and would have been
 * closed by the exec otherwise. Nobody expects it here: and if it was a pid file, its lock would keep this generation from starting.
 */
static bool came_by_mistake(const struct state *state, const struct entry *e)
{
	bool restart = !state->has_mask;

	return state->unseen && e->kind == ENTRY_API && !(e->flags & (ENTRY_ORPHAN | ENTRY_INHERITED)) && (restart || e->flags & ENTRY_CLOEXEC) && e->fd > STDERR_FILENO;
}

static void refuse(struct state *state, struct entry *e)
{
	log_warn("descriptor %d of %s/%d is not what the last generation left: not taken", e->fd, e->name, e->id);
	if (came_by_mistake(state, e))
		raw_close(e->fd);
	table_remove(state->table, e);
}

/* What is asked for by its tag alone, and need not be marked as the program had it, is claimed without the lock. A colon: bind() or open() may ask for it, too. */
static bool is_loose(const struct entry *e)
{
	return e->kind == ENTRY_API && e->flags & (ENTRY_CLOEXEC | ENTRY_INHERITED) && !strchr(e->name, ':');
}

/* Open, and what was recorded; then it is an orphan, close-on-exec until the program asks for it. */
static void adopt_all(struct state *state)
{
	struct table *table = state->table;
	struct fds_row row = FDS_NO_ROW;
	struct entry *e, *after;

	for (e = table_first(table); e; e = after) {
		after = table_after(e);
		if (!is_sound(e)) {
			refuse(state, e);
			continue;
		}
		if (e->fd <= STDERR_FILENO) /* children count on those, and so does who prints an error */
			e->flags |= ENTRY_INHERITED;
		if (!(e->flags & ENTRY_INHERITED))
			fds_row_close_at_exec(&row, e->fd);
		if (e->flags & ENTRY_LISTENING)
			e->flags |= ENTRY_RAISED; /* leaving did that */
		if (is_loose(e))
			table_make_loose(table, e);
		else
			table_make_orphan(table, e);
	}
	fds_row_end(&row);
}

void arrive_read(struct state *state)
{
	char reason[256];
	struct text why = TEXT_ON(reason);
	int64_t read_at;
	int fd = state_fd(), r;

	*state = (struct state){0};
	arrival.started_at = arrival.first_at = io_now();
	if (fd >= 0) {
		r = state_read(fd, false, state, &why);
		if (r)
			log_error("the state in descriptor %d is not used: %s. The program starts without what the last generation held", fd, reason);
		if (r != -EPERM) /* else it is something else that happens to have this number */
			raw_close(fd);
	}
	if (!state->table) {
		cpr__table = table_new();
		return;
	}
	arrival.generation = (int)state->generation + 1;
	arrival.first_at = state->first_at;
	read_at = io_now();
	adopt_all(state);
	log_debug("arriving: state read in %lld us, %zu descriptors adopted in %lld us", (long long)(read_at - arrival.started_at) / 1000,
		  table_count(state->table), (long long)(io_now() - read_at) / 1000);
	cpr__table = state->table;
	state->table = NULL;
}

/* ---- readiness ---- */

/* A resolver's socket of the moment: nobody will ask for it again, and nobody minds. */
static bool is_transient(const struct entry *e)
{
	size_t n = strlen(e->name);

	return (e->kind == ENTRY_DATAGRAM && n > 2 && !strcmp(e->name + n - 2, ":0")) || !strncmp(e->name, TAGGING_HIDDEN, strlen(TAGGING_HIDDEN));
}

static bool is_unclaimed(const struct entry *e)
{
	return e->flags & ENTRY_ORPHAN && !(e->flags & ENTRY_INHERITED) && !is_transient(e);
}

/* How many of the last generation's have not been asked for. */
static size_t unclaimed(void)
{
	struct guard_hold hold;
	size_t n = 0;

	if (!table_orphans(cpr__table) || !guard_lock(&hold))
		return 0;
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e))
		n += is_unclaimed(e);
	guard_unlock(&hold);
	return n;
}

int arrive_backlog(int fd, int backlog)
{
	struct guard_hold hold;
	struct entry *e;
	bool raised;

	if (likely(!arrive_watch) || !guard_lock(&hold))
		return backlog;
	e = table_by_fd(cpr__table, fd);
	raised = e && e->flags & ENTRY_RAISED;
	guard_unlock(&hold);
	return raised ? GREATEST_BACKLOG : backlog;
}

/* Some servers (haproxy) see that the socket listens and do not call listen() again: theirs is the last generation's. */
static void lower_backlogs(void)
{
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	for (struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (e->flags & ENTRY_RAISED && !(e->flags & ENTRY_ORPHAN)) {
			e->flags &= (uint16_t)~ENTRY_RAISED;
			if (e->backlog >= 0 && object_still(&e->object, e->fd))
				next_listen(e->fd, e->backlog);
		}
	guard_unlock(&hold);
}

static void put_orphans(struct text *t)
{
	struct guard_hold hold;

	if (roster_claims() || !guard_lock(&hold)) /* by workers: which they were, only they know */
		return;
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (is_unclaimed(e) && t->used < t->size / 2) {
			text_format(t, "warning=%s/%d is not asked for by this generation, and will be closed %d s after its start", e->name, e->id,
				    cpr__settings.grace_s);
			text_add(t, "\n");
		}
	guard_unlock(&hold);
}

static size_t kept_count(void)
{
	struct guard_hold hold;
	size_t n = 0;

	if (!guard_lock(&hold))
		return 0;
	pending_resolve_all();
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e))
		n += e->flags & ENTRY_KEPT && !(e->flags & ENTRY_ORPHAN);
	guard_unlock(&hold);
	return n;
}

static void report(size_t orphans)
{
	static cpr_large char answer[2048]; /* it is said once */
	struct text t = TEXT_ON(answer);

	if (!arrival.nonce)
		return;
	protocol_put(&t, "result", "ready");
	protocol_put_int(&t, "pid", getpid());
	protocol_put_int(&t, "generation", arrival.generation);
	protocol_put_int(&t, "descriptors", (int64_t)kept_count());
	protocol_put_int(&t, "carried", arrival.carried);
	protocol_put_int(&t, "closed", arrival.closed);
	protocol_put_int(&t, "cut", arrival.cut);
	protocol_put_int(&t, "orphans", (int64_t)orphans);
	protocol_put_int(&t, "drain_us", (arrival.drained_at - arrival.asked_at) / 1000);
	protocol_put_int(&t, "leave_us", (arrival.left_at - arrival.drained_at) / 1000);
	protocol_put_int(&t, "exec_us", (arrival.started_at - arrival.left_at) / 1000);
	protocol_put_int(&t, "ready_us", arrival.took_us);
	put_orphans(&t);
	children_warn(&t);
	bell_report(arrival.nonce, answer, t.used);
}

static void become_ready(size_t orphans)
{
	if (atomic_exchange(&arrival.ready, true) || arrival.generation == 1)
		return;
	arrival.ready_at = io_now();
	arrival.took_us = (arrival.ready_at - (arrival.asked_at ? arrival.asked_at : arrival.started_at)) / 1000;
	report(orphans);
	retire_tell();
	log_info("generation %d is ready after %lld ms", arrival.generation, (long long)arrival.took_us / 1000);
}

/* `waits`: the program is about to wait for events. With everything claimed that is readiness; the rest is for programs of which we see less. */
static void check_ready(bool waits)
{
	int64_t now = io_now();
	size_t left;

	if (atomic_load(&arrival.ready) || !roster_elect())
		return;
	left = unclaimed();
	left = left > (size_t)roster_claims() ? left - (size_t)roster_claims() : 0; /* workers have a copy of each */
	if (!left && !arrival.claimed_at)
		arrival.claimed_at = now;
	if (waits && !arrival.waited_at)
		arrival.waited_at = now;
	if (left ? arrival.waited_at && now - arrival.waited_at > UNCLAIMED_MS * MS : waits || now - arrival.claimed_at > SILENT_MS * MS)
		become_ready(left);
	else if (now - arrival.started_at > cpr__settings.ready_timeout_s * 1000 * MS)
		become_ready(left);
}

/* ---- grace ---- */

/* What is carried is closed by who delivers it. */
static void close_orphans(bool carrying)
{
	struct guard_hold hold;
	struct entry *e, *after;

	if (!guard_lock(&hold))
		return;
	for (e = table_first(cpr__table); e; e = after) {
		after = table_after(e);
		if ((carrying && !strncmp(e->name, TAGGING_HIDDEN, strlen(TAGGING_HIDDEN))) || !table_hold(e))
			continue;
		if (e->flags & ENTRY_INHERITED) {
			table_adopt(cpr__table, e);
			continue;
		}
		if (!is_transient(e) && !roster_claims() && roster_elect())
			log_warn("%s/%d was kept for this generation, which did not ask for it in %d s: closed", e->name, e->id, cpr__settings.grace_s);
		if (object_still(&e->object, e->fd))
			raw_close(e->fd);
		table_remove(cpr__table, e);
	}
	guard_unlock(&hold);
	replay_forget();
}

/* The pid file names who is the owner now: a daemon is not the process that was started. */
static void write_pidfile(void)
{
	static int written;
	char line[16];
	struct text t = TEXT_ON(line);
	cleanup_fd int fd = -1;

	if (!cpr__settings.pidfile || written == getpid())
		return;
	written = getpid();
	text_format(&t, "%d\n", written);
	fd = raw_open(cpr__settings.pidfile, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || io_write_all(fd, line, t.used))
		log_warn("the pid file %s could not be written: %m", cpr__settings.pidfile);
}

/* Is there something that a daemon would have to do, once it is the owner? */
static bool awaits_ownership(void)
{
	return cpr__settings.pidfile || (arrival.nonce && !atomic_load(&arrival.ready));
}

/* What is awaited beside the connections that were carried: ms until the next look at it; 0: nothing. */
static int await_rest(bool owner, bool carrying, int64_t now, int64_t grace_at)
{
	if (owner && !atomic_load(&arrival.ready))
		return now - arrival.started_at < 1000 * MS ? TICK_MS : SLOW_TICK_MS;
	if (!owner && awaits_ownership() && now - arrival.started_at < DAEMON_MS * MS)
		return SLOW_TICK_MS; /* the process that started us may be about to leave, and we be the daemon */
	if (owner && now - arrival.ready_at < SLOW_TICK_MS * MS) /* time to accept what has queued */
		return SLOW_TICK_MS;
	if (owner && !deliver_is_knocking())
		lower_backlogs();
	if (owner && !retire_is_over(now))
		return SLOW_TICK_MS;
	if (table_orphans(cpr__table) && !(carrying && now >= grace_at))
		return grace_at > now ? (int)((grace_at - now) / MS) + 1 : 1;
	return 0;
}

/* ms until the next look; 0: the arrival is over. */
static int settle(bool waits)
{
	int64_t now = io_now(), grace_at = arrival.started_at + cpr__settings.grace_s * 1000 * MS;
	bool owner = roster_elect();
	int carrying = deliver_settle(now >= grace_at), rest;

	if (owner) {
		write_pidfile();
		check_ready(waits);
	}
	if (table_orphans(cpr__table) && now >= grace_at)
		close_orphans(carrying);
	if (!table_orphans(cpr__table))
		replay_forget();
	rest = await_rest(owner, carrying, now, grace_at);
	return carrying && (!rest || carrying < rest) ? carrying : rest;
}

static void look(bool waits)
{
	static atomic_flag looking = ATOMIC_FLAG_INIT; /* a thread's wait and another's tick */
	int again;

	if (atomic_flag_test_and_set(&looking)) {
		if (!waits) /* it may be past what this one rang for */
			bell_tick_in(BELL_ARRIVAL, TICK_MS);
		return;
	}
	again = settle(waits);
	if (!again)
		atomic_store(&arrive_watch, false);
	if (children_reap() && !again)
		again = CHILDREN_TICK_MS;
	atomic_flag_clear(&looking); /* before the tick: see restart_tick */
	if (again)
		bell_tick_in(BELL_ARRIVAL, again);
}

void arrive_waiting(void)
{
	int saved_errno = errno;
	sigset_t before;

	guard_block(&before);
	if (birth_own_memory())
		look(true);
	guard_unblock(&before);
	errno = saved_errno;
}

void arrive_hand_on(struct state *state)
{
	if (arrive_is_ready())
		return;
	state->nonce = arrival.nonce;
	state->asked_at = arrival.asked_at;
	state->drained_at = arrival.drained_at;
	state->cut = arrival.cut;
	state->carried = arrival.carried;
	state->closed = arrival.closed;
}

void arrive_tick(void)
{
	if (atomic_load(&arrive_watch))
		look(false);
	else if (children_reap())
		bell_tick_in(BELL_ARRIVAL, CHILDREN_TICK_MS);
}

/* -u: not before the exec, which may fail, but before the program looks for them. */
static void remove_files(void)
{
	char path[TAG_NAME_MAX + 1];
	const char *at = cpr__settings.unlink;

	while (at && *at) {
		size_t n = strcspn(at, "\n");

		if (n && n < sizeof(path)) {
			memcpy(path, at, n);
			path[n] = '\0';
			if (next_unlink(path) && errno != ENOENT)
				log_warn("%s could not be removed: %m", path);
		}
		at += n + (at[n] == '\n');
	}
}

void arrive_begin(const struct state *state)
{
	if (arrival.generation == 1) {
		atomic_store(&arrival.ready, true);
		atomic_store(&arrive_watch, cpr__settings.pidfile != NULL);
		return;
	}
	if (!state->has_mask) {
		remove_files();
		page_let_go(state->page, state->page_ino);
		retire_ring(state->workers, state->worker_count);
	}
	arrival.nonce = state->nonce;
	arrival.asked_at = state->asked_at;
	arrival.left_at = state->left_at;
	arrival.cut = state->cut;
	arrival.carried = state->carried;
	arrival.closed = state->closed;
	arrival.drained_at = state->drained_at;
	deliver_adopt(state->passed, state->passed_count);
	if (state->has_mask)
		children_adopt(state->children, state->child_count);
	else
		children_adopt_all(state->children, state->child_count);
	retire_adopt(state->workers, state->worker_count);
	atomic_store(&arrive_watch, true);
	bell_tick_in(BELL_ARRIVAL, TICK_MS);
}
