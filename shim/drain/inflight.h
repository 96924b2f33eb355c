/* SPDX-License-Identifier: MIT */
/* Long requests: a drain waits for them before it freezes anything, so that no other client waits for them. */
#ifndef CPR_DRAIN_INFLIGHT_H
#define CPR_DRAIN_INFLIGHT_H

#include <stddef.h>

/* Notes which connections of this process are in the middle of a request. All signals blocked. */
void inflight_begin(void);

/*
 * Returns how many of those have not ended, nor reached a boundary (a stream: a silence), nor begun their next request.
 */
size_t inflight_left(void);

#endif
