/* SPDX-License-Identifier: MIT */
/*
 * What a supervisor does while it waits for a generation's answer: that may be stopped, and never answer. It reports
 * its phase, notes signals for later, and stops waiting when it gets a signal to end.
 */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include "patience.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>

enum { OWN = 1 + CALLERS_MAX, ON_MAX = 8 };

static struct supervisor *here;

/* The one that clients are with has ended: whatever else is asked, this is seen to first. */
static bool serving_has_ended(void)
{
	siginfo_t info = {0};
	const struct generation *g = here->serving;

	return g && g->owner > 0 && !g->ended &&
	       !waitid(P_PID, (id_t)g->owner, &info, WEXITED | WNOHANG | WNOWAIT) && info.si_pid;
}

static bool is_called_off(void)
{
	return !here->steady && (here->told_to_end || serving_has_ended());
}

static int milliseconds(int64_t until)
{
	int64_t left = until - io_now();

	return left > 0 ? (int)((left + MS - 1) / MS) : 0;
}

/* Ours, behind theirs. How many in all. */
static size_t add_own(struct pollfd *all, size_t count, struct caller *of[OWN])
{
	all[count] = (struct pollfd){.fd = signals_have_room(here) ? here->signals : -1, .events = POLLIN};
	of[0] = NULL;
	for (size_t i = 0, n = 1; i < CALLERS_MAX; i++, n++) {
		struct caller *c = &here->callers[i];

		all[count + n] = (struct pollfd){.fd = c->later ? -1 : c->line, .events = POLLIN};
		of[n] = c;
	}
	return count + OWN;
}

/* -EAGAIN: something of ours, or nothing yet. */
static int look(struct pollfd *on, size_t count, int64_t until, bool forever)
{
	struct pollfd all[ON_MAX + OWN];
	struct caller *of[OWN];
	int64_t by = forever ? 0 : until;
	size_t total;
	int n;

	notify_tick(here, io_now());
	due(&by, notify_due(here));
	memcpy(all, on, count * sizeof(*on));
	total = add_own(all, count, of);
	n = poll(all, total, by ? milliseconds(by) : -1);
	if (!n && (forever || io_now() < until))
		return -EAGAIN;
	if (n <= 0)
		return n;
	if (all[count].revents)
		signals_note(here);
	for (size_t i = 1; i < OWN; i++)
		if (all[count + i].revents)
			callers_read_now(here, of[i]);
	n = 0;
	for (size_t i = 0; i < count; i++) {
		on[i].revents = all[i].revents;
		n += on[i].revents != 0;
	}
	return n ? n : -EAGAIN;
}

static int wait_meanwhile(struct pollfd *on, size_t count, int ms)
{
	int64_t until = io_now() + ms * MS;
	int here_already;

	if (count > ON_MAX)
		return poll(on, count, ms);
	/* a message that has arrived is received, even if the wait is called off: it is sent once */
	here_already = poll(on, count, 0);
	if (here_already)
		return here_already;
	for (;;) {
		int n;

		if (is_called_off()) {
			errno = ECANCELED;
			return -1;
		}
		n = look(on, count, until, ms < 0);
		if (n != -EAGAIN)
			return n;
	}
}

void meanwhile_begin(struct supervisor *s)
{
	here = s;
	patience_is(wait_meanwhile);
}
