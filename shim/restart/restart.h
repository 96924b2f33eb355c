/* SPDX-License-Identifier: MIT */
/* A restart from request to exec: drains first, by ticks, then leaves; or goes back. */
#ifndef CPR_RESTART_RESTART_H
#define CPR_RESTART_RESTART_H

#include "restart/leave.h"

/*
 * Begins a restart. Returns 0 when the drain has begun: the ticks do the rest, and call `over`, in a handler, if it
 * ends without exec. If there is nothing to wait for, returns the result of leave_restart. -EBUSY: a restart is under
 * way. request->path is copied; the rest must stay until `over`. A signal handler may call it.
 */
int restart_begin(const struct leave_request *request, void (*over)(void *arg, int result, const char *why),
		  struct text *why);

/* Once, when the library starts. */
void restart_init(void);

bool restart_under_way(void);

#endif
