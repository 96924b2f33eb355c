/* SPDX-License-Identifier: MIT */
/* Grace: orphans that are not claimed. */
#define _GNU_SOURCE
#include "restart/grace.h"

#include "base/log.h"
#include "base/raw.h"
#include "fd/closed.h"
#include "fd/gate.h"
#include "fd/replay.h"
#include "fd/tagging.h"
#include "process/caller.h"
#include "process/guard.h"
#include "process/roster.h"
#include "restart/generation.h"

#include <string.h>

static bool grace_is_hidden(const struct entry *e)
{
	return !strncmp(e->name, TAGGING_HIDDEN, strlen(TAGGING_HIDDEN));
}

/* A resolver's socket of the moment: no generation asks for it again, and none misses it. */
static bool is_transient(const struct entry *e)
{
	return (e->kind == ENTRY_DATAGRAM && tag_is_any_port(e->name)) || grace_is_hidden(e);
}

int64_t grace_end(void)
{
	return generation_started_at() + cpr__settings.grace_s * INT64_C(1000000000);
}

int64_t grace_next(int64_t now)
{
	int64_t end = grace_end(), closed = closed_until();

	return closed && (closed < end || end <= now) ? closed : end;
}

/* What the program has closed itself has a time of its own. */
static bool grace_is_over(const struct entry *e, int64_t now)
{
	return now >= (e->flags & ENTRY_CLOSED ? closed_until() : grace_end());
}

bool grace_is_unclaimed(const struct entry *e)
{
	return e->flags & ENTRY_ORPHAN && !(e->flags & ENTRY_INHERITED) && !is_transient(e);
}

size_t grace_unclaimed(void)
{
	struct guard_hold hold;
	size_t n = 0;

	if (!table_orphans(cpr__table) || !guard_lock(&hold))
		return 0;
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e))
		n += grace_is_unclaimed(e);
	guard_unlock(&hold);
	return n;
}

static void close_orphan(struct entry *e)
{
	if (!is_transient(e) && !(e->flags & ENTRY_CLOSED) && !roster_claims() && roster_elect())
		log_warn("%s/%d was kept for this generation, which did not ask for it in %d s: closed", e->name, e->id,
			 cpr__settings.grace_s);
	if (object_still(&e->object, e->fd))
		raw_close(e->fd);
	table_remove(cpr__table, e);
}

static void close_orphans(int64_t now, bool carrying)
{
	struct guard_hold hold;
	struct entry *e, *after;

	if (!guard_lock(&hold))
		return;
	for (e = table_first(cpr__table); e; e = after) {
		after = table_after(e);
		if (gate_hides(e) || !grace_is_over(e, now) || (carrying && grace_is_hidden(e)) || !table_hold(e))
			continue;
		if (e->flags & ENTRY_INHERITED)
			table_adopt(cpr__table, e);
		else
			close_orphan(e);
	}
	guard_unlock(&hold);
	replay_forget();
}

/* It holds what was closed still, and would let clients wait for nothing. */
static void tell_supervisor(void)
{
	static const char said[] = "result=changed\n";

	caller_report(cpr__settings.supervisor_nonce, said, sizeof(said) - 1);
}

void grace_look(int64_t now, bool carrying)
{
	if (table_orphans(cpr__table) && now >= grace_next(now))
		close_orphans(now, carrying);
	if (closed_is_over(now) && roster_elect()) /* a worker has a copy of its owner's note */
		tell_supervisor();
	if (!table_orphans(cpr__table))
		replay_forget();
}
