/* SPDX-License-Identifier: MIT */
/* Abandoned: is the supervisor gone, and which process has something left. */
#define _GNU_SOURCE
#include "restart/abandoned.h"

#include "base/io.h"
#include "base/log.h"
#include "base/next.h"
#include "deliver/queue.h"
#include "fd/conn.h"
#include "fd/gate.h"
#include "process/guard.h"
#include "process/procinfo.h"
#include "process/roster.h"
#include "process/snapshot.h"
#include "process/startup.h"
#include "restart/take.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LOOK_MS = 1000, WORKERS_MAX = 256 };

#define KILL_AFTER_NS INT64_C(5000000000)
#define LONGEST_NS INT64_C(3600000000000) /* as --drain of handover mode, by default */

static uint64_t wish;    /* 0: the supervisor lives, as far as is known */
static int64_t since;    /* … it has been seen to be gone */
static int64_t leave_at; /* when this generation got its signal to end; 0: not yet */

/* As the supervisor gave it: then pids mean here what they mean there. */
static bool has_the_pid_that_it_was_given(void)
{
	return settings_number(cpr__startup.envp, SETTINGS_PID, 1, INT32_MAX, 0) == cpr__snapshot.pid;
}

/*
 * /proc may hide it: that says nothing. Nor does a pid that was never there: the program may have a pid namespace of
 * its own.
 */
static bool supervisor_is_gone(void)
{
	static bool seen;
	struct procinfo proc;

	seen |= has_the_pid_that_it_was_given(); /* the supervisor may have been killed before the first look */
	if (next_sys(SYS_kill, cpr__settings.supervisor, 0) && errno == ESRCH)
		return seen;
	seen = true;
	return procinfo_look(cpr__settings.supervisor, &proc) && proc.dead;
}

bool abandoned_is_empty(void)
{
	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);

		if (c && !(c->flags & CONN_EXEMPT))
			return false;
	}
	return !take_delivers_here() || !deliver_left();
}

static void kill_all(void)
{
	int pids[WORKERS_MAX];
	size_t n = roster_workers(pids, WORKERS_MAX);

	for (size_t i = 0; i < n; i++)
		kill(pids[i], SIGKILL);
	kill(getpid(), SIGKILL);
}

static void abandoned_leave(int64_t now)
{
	if (!leave_at)
		kill(getpid(), cpr__settings.retire_signal);
	else if (now - leave_at > KILL_AFTER_NS)
		kill_all();
	leave_at = leave_at ? leave_at : now;
}

int abandoned_look(uint64_t (*ask_all)(void))
{
	int64_t now = io_now();
	bool has_served = gate_has_left;

	if (!cpr__settings.supervisor || (!has_served && !gate_claims()))
		return 0;
	if (!wish && !supervisor_is_gone())
		return LOOK_MS;
	if (!wish) {
		log_warn("the supervisor, PID %d, is gone: this generation, which does not serve, ends %s",
			 cpr__settings.supervisor, has_served ? "with its last connection" : "now");
		gate_forget();
		since = now;
		wish = ask_all();
	}
	if (!has_served || now - since > LONGEST_NS ||
	    (!roster_workers_not_gated(wish, true) && abandoned_is_empty()))
		abandoned_leave(now);
	return LOOK_MS;
}
