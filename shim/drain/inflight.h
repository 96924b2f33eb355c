/* SPDX-License-Identifier: MIT */
/* Requests that take long: they are awaited before anything is frozen, so that no other client has to wait for them. */
#ifndef CPR_DRAIN_INFLIGHT_H
#define CPR_DRAIN_INFLIGHT_H

#include <stddef.h>

/* Notes which connections of this process are in the middle of something. All signals blocked. */
void inflight_begin(void);

/*
 * How many of those have neither ended, nor come to a boundary (or, of streams, to a silence), nor begun their next
 * request.
 */
size_t inflight_left(void);

#endif
