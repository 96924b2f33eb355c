/* SPDX-License-Identifier: MIT */
/* Foresee: would a restart be refused, and what would become of each connection now? */
#define _GNU_SOURCE
#include "restart/foresee.h"

#include "deliver/queue.h"
#include "drain/carry.h"
#include "fd/tagging.h"
#include "process/guard.h"
#include "process/identity.h"
#include "process/roster.h"
#include "process/startup.h"
#include "restart/generation.h"
#include "restart/preflight.h"
#include "restart/ready.h"
#include "restart/restart.h"

static void put_fates(struct text *t)
{
	struct carry_count count = {0};
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	tagging_check_all(false);
	carry_choose(NULL, 0, 0, false, &count);
	guard_unlock(&hold);
	protocol_put_int(t, "carried", (int64_t)(count.carried + deliver_count()));
	protocol_put_int(t, "closed", (int64_t)count.closed);
	protocol_put_int(t, "cut", (int64_t)count.cut);
}

/* "refused" or "busy"; NULL: it would be tried. */
static const char *foresee_refusal(int sock, const char *path, struct text *why)
{
	if (path && !identity_may_choose_program(sock, why))
		return "refused";
	if (preflight(path ? path : cpr__startup.path, why))
		return "refused";
	if (ready_reached() && !restart_under_way())
		return NULL;
	text_add(why, "a restart is under way already");
	return "busy";
}

void foresee(int sock, const struct protocol_request *request, struct text *answer)
{
	static cpr_large char reason[1024]; /* the task asks, one caller after the other */
	const char *path = request->path[0] ? request->path : NULL, *refused = NULL;
	struct text why = TEXT_ON(reason);

	if (roster_elect() && !(request->flags & PROTOCOL_BY_SUPERVISOR))
		refused = foresee_refusal(sock, path, &why);
	protocol_put(answer, "result", refused ? refused : "ok");
	if (refused) {
		protocol_put(answer, "reason", reason);
		return;
	}
	protocol_put_int(answer, "owner", roster_owner());
	protocol_put_int(answer, "workers", roster_elect() ? (int64_t)roster_worker_count() : 0);
	protocol_put_int(answer, "generation", generation_number() + 1);
	protocol_put_int(answer, "drain_s", cpr__settings.drain_s);
	put_fates(answer);
}
