/* SPDX-License-Identifier: MIT */
/* Processes that this one's children have become by exec, and that hold its listeners: no workers of ours, but they accept. */
#ifndef CPR_SHARERS_H
#define CPR_SHARERS_H

#include "state.h"

/*
 * Looks for them among all that descend from this process, but for the `*workers` that stand in `worker` already, and forked workers and what those have made. Each is added there, to be retired as a worker is, marked in
 * `child`, and named in the log. At most `most` of each. Holding the guard, with the table checked.
 */
void sharers_add(struct worker *worker, size_t *workers, struct child *child, size_t *children, size_t most);

#endif
