/* SPDX-License-Identifier: MIT */
/* The constructor: start order. */
#define _GNU_SOURCE
#include "wrap/init.h"

#include "restart/arrive.h"
#include "restart/doorbell.h"
#include "deliver/queue.h"
#include "drain/drain.h"
#include "fd/claim.h"
#include "fd/inherited.h"
#include "process/birth.h"
#include "process/page.h"
#include "process/guard.h"
#include "restart/exec.h"
#include "base/log.h"
#include "base/next.h"
#include "fd/pending.h"
#include "process/roster.h"
#include "process/startup.h"
#include "base/pool.h"
#include "restart/drain_owner.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

static int argc;
static char **argv;

/* Of a program that has exec'ed itself, what it let through. A ring that is pending from before would end it: not until there is a handler. */
static void let_through(uint64_t mask)
{
	mask |= UINT64_C(1) << (cpr__settings.signal - 1);
	if (cpr__settings.restart_signal)
		mask |= UINT64_C(1) << (cpr__settings.restart_signal - 1);
	next_sys(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, _NSIG / 8);
}

/* Their hooks run around a fork in reverse order: the guard is taken first. */
static int family(void)
{
	int r = birth_init();

	if (!r)
		r = page_init(startup_seccomp_filters());
	if (!r)
		r = roster_init();
	if (!r)
		r = guard_init();
	return r;
}

static int start(void)
{
	struct state state;
	int r;

	next_resolve();
	log_begin();
	pool_begin();
	settings_read(&cpr__settings, environ);
	r = family(); /* before the table is there for a wrapper to see */
	if (r)
		return r;
	arrive_read(&state);
	if (!cpr__table)
		return -ENOMEM;
	if (state.page_ino && state.has_mask) /* the program's own exec */
		page_inherit(state.page, state.page_ino);
	if (state.has_mask)
		let_through(state.mask);
	r = startup_init(argc, argv, environ, state.generation ? &state : NULL);
	if (!r)
		r = leave_init();
	if (!r) {
		claim_on_listener(deliver_to);
		inherited_on_answer(deliver_join);
		inherited_begin();
		arrive_begin(&state);
		deliver_to_inherited();
		pending_init();
		drain_init();
		drain_owner_init();
		r = doorbell_init();
	}
	state_free(&state);
	return r;
}

int cpr__init(void)
{
	static bool done;
	static int result;
	int saved_errno = errno;

	if (!done) {
		done = true;
		result = start();
		errno = -result;
		if (result)
			log_error("not under cpr: %m");
		errno = saved_errno;
	}
	return result;
}

/* glibc passes main's arguments to constructors. 101: before any library's ordinary constructor that may open something. */
__attribute__((constructor(101))) static void constructor(int count, char **arguments)
{
	argc = count;
	argv = arguments;
	cpr__init();
}
