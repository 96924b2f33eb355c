/* SPDX-License-Identifier: MIT */
/* Grace: orphans that are not claimed. */
#define _GNU_SOURCE
#include "restart/grace.h"

#include "base/log.h"
#include "base/raw.h"
#include "fd/gate.h"
#include "fd/replay.h"
#include "fd/tagging.h"
#include "process/guard.h"
#include "process/roster.h"
#include "restart/generation.h"

#include <string.h>

static bool is_hidden(const struct entry *e)
{
	return !strncmp(e->name, TAGGING_HIDDEN, strlen(TAGGING_HIDDEN));
}

/* A resolver's socket of the moment: no generation asks for it again, and none misses it. */
static bool is_transient(const struct entry *e)
{
	size_t n = strlen(e->name);

	return (e->kind == ENTRY_DATAGRAM && n > 2 && !strcmp(e->name + n - 2, ":0")) || is_hidden(e);
}

int64_t grace_end(void)
{
	return generation_started_at() + cpr__settings.grace_s * INT64_C(1000000000);
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
	if (!is_transient(e) && !roster_claims() && roster_elect())
		log_warn("%s/%d was kept for this generation, which did not ask for it in %d s: closed", e->name, e->id,
			 cpr__settings.grace_s);
	if (object_still(&e->object, e->fd))
		raw_close(e->fd);
	table_remove(cpr__table, e);
}

static void close_orphans(bool carrying)
{
	struct guard_hold hold;
	struct entry *e, *after;

	if (!guard_lock(&hold))
		return;
	for (e = table_first(cpr__table); e; e = after) {
		after = table_after(e);
		if (gate_hides(e) || (carrying && is_hidden(e)) || !table_hold(e))
			continue;
		if (e->flags & ENTRY_INHERITED)
			table_adopt(cpr__table, e);
		else
			close_orphan(e);
	}
	guard_unlock(&hold);
	replay_forget();
}

void grace_look(int64_t now, bool carrying)
{
	if (table_orphans(cpr__table) && now >= grace_end())
		close_orphans(carrying);
	if (!table_orphans(cpr__table))
		replay_forget();
}
