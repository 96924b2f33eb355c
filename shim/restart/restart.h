/* SPDX-License-Identifier: MIT */
/* A restart from request to exec: drain first, by ticks, then leave; or the way back. */
#ifndef CPR_RESTART_RESTART_H
#define CPR_RESTART_RESTART_H

#include "restart/leave.h"

/*
 * Begins. Returns 0 when the drain has begun (the ticks do the rest: `over` is called, in a handler, if it ends without
 * exec), or what leave_restart says where there is nothing to wait for. -EBUSY: one is under way. request->path is
 * copied; the rest must stay until `over`. A signal handler may call it.
 */
int restart_begin(const struct leave_request *request, void (*over)(void *arg, int result, const char *why),
		  struct text *why);

/* Once, when the library starts. */
void restart_init(void);

bool restart_under_way(void);

#endif
