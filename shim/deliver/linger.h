/* SPDX-License-Identifier: MIT */
/* Connections that the last generation left to be ended. */
#ifndef CPR_DELIVER_LINGER_H
#define CPR_DELIVER_LINGER_H

#include "model/state.h"

#include <stdbool.h>

/* Room for n of them; once, before the first. False: out of memory. */
bool linger_prepare(size_t n);

/*
 * FIN after the last byte. What the peer has sent and was not read would turn a close into a reset: it is read and
 * dropped until the peer ends, too. Holding the guard.
 */
void linger_begin(int fd);

/* Reads on, and closes what has ended, and after a while all. True: none is left. Holding the guard. */
bool linger_over(void);

/* The program execs itself meanwhile: those go on with the state. Into `into`, `most` at the most; how many. */
size_t linger_hand_on(struct passed *into, size_t most);

#endif
