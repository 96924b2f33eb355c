/* SPDX-License-Identifier: MIT */
/* What a restart would do: asks the processes that would do it, and changes nothing. */
#ifndef CPR_FORESIGHT_H
#define CPR_FORESIGHT_H

#include "client.h"

/*
 * Shows it. `client`: the process that would be asked to restart; `status`: its own status; `path`: another program for
 * it, or "". Returns OUTCOME_DONE; or another and `why`: a restart would be refused.
 */
enum outcome foresight_show(struct client *client, const char *status, const char *path, bool as_json,
			    struct text *why);

#endif
