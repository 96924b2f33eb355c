/* SPDX-License-Identifier: MIT */
/*
 * Listeners that only workers hold: haproxy's master has none, and a server may bind in each worker. During a drain the
 * owner holds them for the next generation.
 */
#ifndef CPR_RESTART_DRAIN_ADOPTED_H
#define CPR_RESTART_DRAIN_ADOPTED_H

#include "restart/drain_worker.h"

/* A drain begins: clears the list. */
void drain_adopted_begin(void);

/* A worker has passed this listener, and described it. Closes it if the description is wrong. Not holding the guard. */
void drain_adopt(int fd, const struct drain_worker_message *message);

/* The drain was called off: the listeners belong to the workers again. Not holding the guard. */
void drain_adopted_give_back(void);

#endif
