/* SPDX-License-Identifier: MIT */
/* Queue lengths of listeners. */
#define _GNU_SOURCE
#include "restart/backlog.h"

#include "base/guarded.h"
#include "base/next.h"
#include "fd/gate.h"
#include "fd/tagging.h"
#include "process/guard.h"
#include "restart/generation.h"

#define RAISED_NS (200 * MS) /* time to accept what has queued */
#define MS INT64_C(1000000)

enum { GREATEST = 65535 }; /* the kernel cuts it to somaxconn */

/*
 * While no process accepts, a queue of 5 is full at once, the kernel drops SYNs, and a client waits a second for its
 * retransmission. The next generation's own listen() sets it back.
 */
void backlog_raise_all(bool raise)
{
	assert_guarded();
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (e->kind == ENTRY_STREAM && e->flags & ENTRY_LISTENING && e->flags & ENTRY_KEPT)
			next_listen(e->fd, raise || e->backlog < 0 ? GREATEST : e->backlog);
}

void backlog_raise(bool raise)
{
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	backlog_raise_all(raise);
	guard_unlock(&hold);
}

int backlog_for(int fd, int backlog)
{
	struct guard_hold hold;
	struct entry *e;
	bool raised;

	if (likely(!generation_is_settling) || !guard_lock(&hold))
		return backlog;
	e = table_by_fd(cpr__table, fd);
	raised = e && e->flags & ENTRY_RAISED;
	guard_unlock(&hold);
	return raised ? GREATEST : backlog;
}

void backlog_lower_claimed(void)
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

/* ---- after a gate was opened ---- */

static int64_t lower_at; /* 0: they are not raised */

void backlog_lower_later(int64_t opened_at)
{
	lower_at = opened_at ? opened_at + RAISED_NS : 0;
}

int backlog_look(int64_t now)
{
	if (!lower_at)
		return 0;
	if (now < lower_at)
		return (int)((lower_at - now) / MS) + 1;
	lower_at = 0;
	gate_lower_backlogs();
	return 0;
}
