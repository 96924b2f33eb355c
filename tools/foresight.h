/* SPDX-License-Identifier: MIT */
/* What a restart would do, asked of the processes that would do it: nothing is done. */
#ifndef CPR_FORESIGHT_H
#define CPR_FORESIGHT_H

#include "client.h"

/*
 * Shows it. `client`: the process that would be asked to restart; `status`: what it has said of itself; `path`: of
 * another program for it, or "". OUTCOME_DONE; or another and `why`: a restart would be refused.
 */
enum outcome foresight_show(struct client *client, const char *status, const char *path, bool as_json,
			    struct text *why);

#endif
