/* SPDX-License-Identifier: MIT */
/* Arriving: reads and adopts the state, then looks on until all is settled. */
#define _GNU_SOURCE
#include "restart/arrive.h"

#include "base/fds.h"
#include "base/io.h"
#include "base/log.h"
#include "base/next.h"
#include "base/raw.h"
#include "deliver/queue.h"
#include "fd/closed.h"
#include "fd/gate.h"
#include "fd/tagging.h"
#include "process/children.h"
#include "process/birth.h"
#include "process/guard.h"
#include "process/roster.h"
#include "process/startup.h"
#include "process/task.h"
#include "restart/backlog.h"
#include "restart/grace.h"
#include "restart/ready.h"
#include "restart/retire.h"
#include "restart/surplus.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS INT64_C(1000000)

enum {
	TICK_MS = 20, /* while a caller waits for readiness */
	SLOW_TICK_MS = 200,
	/* for children of the last generation that go on: only that they do not stay zombies */
	CHILDREN_TICK_MS = 2500,
	DAEMON_MS = 3000,
};

/* of the program's threads; a forked child finds it cleared */
static struct {
	_Atomic unsigned awaited; /* since the last look: bits of enum awaited */
	_Atomic bool works;       /* one has waited for work */
	_Atomic bool on;          /* a wait has begun, and none has ended since */
	_Atomic bool ended;       /* one has, since the last look */
} *waits;

/* ---- adopting ---- */

static int state_fd(void)
{
	const char *value = settings_env(environ, SETTINGS_STATE_FD);
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
	settings_env_remove(environ, SETTINGS_STATE_FD);
	return fd;
}

static bool is_sound(const struct entry *e)
{
	struct object now;

	return !object_of(e->fd, &now) && object_same(&now, &e->object);
}

/*
 * Is the descriptor another object that the exec should have closed? The last generation's program closed the saved one
 * unseen by the library, and reused the number. Leaving then cleared close-on-exec without a check (state.unseen). This
 * generation does not know the object: if it is a locked pid file, the lock would keep the program from starting.
 */
static bool came_by_mistake(const struct state *state, const struct entry *e)
{
	if (!state->unseen || e->kind != ENTRY_API || e->flags & (ENTRY_ORPHAN | ENTRY_INHERITED) ||
	    e->fd <= STDERR_FILENO)
		return false;
	return state->passage != BY_OWN_EXEC || e->flags & ENTRY_CLOEXEC;
}

static void arrive_refuse(struct state *state, struct entry *e)
{
	log_warn("descriptor %d of %s/%d is not what the last generation left: not taken", e->fd, e->name, e->id);
	if (came_by_mistake(state, e))
		raw_close(e->fd);
	table_remove(state->table, e);
}

/*
 * What is asked for by its tag alone, and need not be marked as the program had it, is claimed without the lock. A
 * colon: bind() or open() may ask for it, too.
 */
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
			arrive_refuse(state, e);
			continue;
		}
		if (e->flags & ENTRY_ORPHAN && state->passage != BY_OWN_EXEC)
			e->flags |= ENTRY_STALE;
		if (e->fd <= STDERR_FILENO) /* children count on those, and so does a program that prints an error */
			e->flags |= ENTRY_INHERITED;
		if (!(e->flags & ENTRY_INHERITED))
			fds_row_close_at_exec(&row, e->fd);
		if (e->flags & ENTRY_LISTENING)
			e->flags |= ENTRY_RAISED; /* leaving did that */
		if (cpr__settings.supervisor && e->flags & ENTRY_KEPT)
			e->flags |= ENTRY_GIVEN; /* not to this image, and it is held all the same */
		if (is_loose(e))
			table_make_loose(table, e);
		else
			table_make_orphan(table, e);
	}
	fds_row_end(&row);
}

int arrive_adopt(struct state *state)
{
	int64_t begun = io_now();

	if (!state->table) {
		struct table *table = table_new();

		/* where a light start ends, other threads run: they see a table that is whole, or none */
		__atomic_store_n(&cpr__table, table, __ATOMIC_RELEASE);
		return table ? 0 : -ENOMEM;
	}
	generation_follows((int)state->generation, state->first_at);
	adopt_all(state);
	log_debug("arriving: state read in %lld us, %zu descriptors adopted in %lld us",
		  (long long)(begun - generation_started_at()) / 1000, table_count(state->table),
		  (long long)(io_now() - begun) / 1000);
	cpr__table = state->table;
	state->table = NULL;
	return 0;
}

void arrive_read(struct state *state)
{
	char reason[256];
	struct text why = TEXT_ON(reason);
	int fd = state_fd(), r;

	*state = (struct state){0};
	generation_begins();
	if (fd < 0)
		return;
	r = state_read(fd, false, state, &why);
	if (r) {
		startup_let_through(0, true); /* what was blocked at the start is not known */
		log_error("the state in descriptor %d is not used: %s. The program starts without what the last "
			  "generation held",
			  fd, reason);
	}
	if (r != -EPERM) /* else it is something else that happens to have this number */
		raw_close(fd);
}

/* ---- looking on ---- */

/*
 * The pid file names the process that is the owner now: a daemon is not the process that was started. The file is never
 * empty meanwhile: this process can end between any two calls, and one that truncates first would leave an empty file.
 */
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
	fd = raw_open(cpr__settings.pidfile, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0 || io_write_all(fd, line, t.used) || ftruncate(fd, (off_t)t.used))
		log_warn("the pid file %s could not be written: %m", cpr__settings.pidfile);
}

/* Is there something that a daemon would have to do, once it is the owner? */
static bool awaits_ownership(void)
{
	return cpr__settings.pidfile || ready_is_awaited();
}

/* What is awaited beside the connections that were carried: ms until the next look at it; 0: nothing. */
static int await_rest(bool owner, bool carrying, int64_t now)
{
	int64_t next = grace_next(now);
	bool retired = !owner || retire_is_over(now); /* first: the next restart may come before this one has settled */

	if (owner && !ready_reached())
		return now - generation_started_at() < 1000 * MS ? TICK_MS : SLOW_TICK_MS;
	if (!owner && awaits_ownership() && now - generation_started_at() < DAEMON_MS * MS)
		return SLOW_TICK_MS; /* the process that started us may be about to leave, and we be the daemon */
	if (owner && now - ready_at() < SLOW_TICK_MS * MS) /* time to accept what has queued */
		return SLOW_TICK_MS;
	if (owner && !deliver_is_knocking())
		backlog_lower_claimed();
	if (!retired)
		return SLOW_TICK_MS;
	if ((table_orphans(cpr__table) && !(carrying && now >= grace_end())) || closed_until())
		return next > now ? (int)((next - now) / MS) + 1 : gate_is_closed ? SLOW_TICK_MS : 1;
	return 0;
}

/* ms until the next look; 0: the arrival is over. */
static int arrive_settle(unsigned awaited, bool still)
{
	int64_t now = io_now();
	bool owner = roster_elect();
	int carrying = deliver_settle(now >= grace_end()), rest;

	if (owner) {
		write_pidfile();
		ready_look(awaited, still);
		if (ready_reached())
			surplus_close();
	}
	grace_look(now, carrying);
	rest = await_rest(owner, carrying, now);
	return carrying && (!rest || carrying < rest) ? carrying : rest;
}

static int settle_with_waits(void)
{
	bool on = atomic_load(&waits->on), ended = atomic_exchange(&waits->ended, false); /* in this order */

	return arrive_settle(atomic_exchange(&waits->awaited, 0), on && !ended);
}

/* The errand: the arrival, and then the children that are not waited for. */
static int arrive_look(void)
{
	int again = atomic_load(&generation_is_settling) ? settle_with_waits() : 0;

	if (!again) {
		atomic_store(&generation_is_settling, false);
		if (closed_until()) { /* it may have been closed in this moment, before the line above */
			atomic_store(&generation_is_settling, true);
			again = 1;
		}
	}
	return children_tidy() && !again ? CHILDREN_TICK_MS : again;
}

void arrive_waiting(enum awaited awaited)
{
	if (!waits)
		return;
	atomic_store(&waits->on, true);
	if (awaited == AWAITED_WORK)
		atomic_store(&waits->works, true);
	if (!(atomic_fetch_or(&waits->awaited, awaited) & awaited))
		task_wake();
}

void arrive_waited(void)
{
	if (!waits)
		return;
	atomic_store(&waits->on, false);
	atomic_store(&waits->ended, true);
}

bool arrive_asks(void)
{
	return waits && !atomic_load(&waits->works) && !ready_reached();
}

void arrive_again(void)
{
	atomic_store(&generation_is_settling, true);
	task_wake();
}

void arrive_receiving(int fd)
{
	if (!ready_reached() && guard_may_read() && table_tracks(cpr__table, fd))
		arrive_waiting(AWAITED_WORK);
}

/* -u: not before the exec, which may fail, but before the program looks for them. */
void arrive_remove_files(void)
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

/*
 * The child may be the daemon that stays: it looks whether it is the owner, as this process does once more. Only while
 * the program starts: a server that forks for each client must not pay for it.
 */
static void arrive_before_fork(void)
{
	if (awaits_ownership() && io_now() - generation_started_at() < DAEMON_MS * MS)
		atomic_store(&generation_is_settling, true);
}

void arrive_begin(void)
{
	atomic_store(&generation_is_settling, generation_number() > 1 || cpr__settings.pidfile || ready_is_awaited());
	waits = birth_cleared(sizeof(*waits));
	if (waits) {
		task_adds(arrive_look);
		birth_around_fork(arrive_before_fork, NULL);
	}
}
