/* SPDX-License-Identifier: MIT */
/* Closes connections that the last generation left for this. */
#ifndef CPR_DELIVER_LINGER_H
#define CPR_DELIVER_LINGER_H

#include "model/state.h"

#include <stdbool.h>

/* Makes room for n of them, once, before the first. Returns false without memory. */
bool linger_prepare(size_t n);

/*
 * Sends FIN after the last byte. Unread data from the peer would turn a close into a reset: it is read and dropped
 * until the peer ends, too. Holding the guard.
 */
void linger_begin(int fd);

/* Reads on, closes those that have ended, and after a while all. Returns whether none is left. Holding the guard. */
bool linger_over(void);

/* The program execs itself: they go on with the state. Writes up to `most` into `into`, and returns how many. */
size_t linger_hand_on(struct passed *into, size_t most);

#endif
