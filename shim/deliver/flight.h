/* SPDX-License-Identifier: MIT */
/* Flight: what was carried, from this process's own numbers into the queues of its family. Holding the guard. */
#ifndef CPR_DELIVER_FLIGHT_H
#define CPR_DELIVER_FLIGHT_H

#include "deliver/family.h"

/* The record of knocks, with room for `n`, is made if there is none. False: it cannot be made now. */
bool flight_can_knock(size_t n);

/* What finds no memory or no number on its way stays in f->fds, and goes with the next call. */
void flight_put(struct family *f);

#endif
