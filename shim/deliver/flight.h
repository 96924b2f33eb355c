/* SPDX-License-Identifier: MIT */
/*
 * Flight: moves carried connections from this process's own numbers into the queues of their family. Holding the guard.
 */
#ifndef CPR_DELIVER_FLIGHT_H
#define CPR_DELIVER_FLIGHT_H

#include "deliver/family.h"

/* Makes the record of knocks, with room for `n`, if there is none. Returns false if that is impossible now. */
bool flight_can_knock(size_t n);

/* What finds no memory or no number stays in f->fds, and goes with the next call. */
void flight_put(struct family *f);

#endif
