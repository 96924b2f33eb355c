/* SPDX-License-Identifier: MIT */
/*
 * Listeners that only workers hold (haproxy's master has none, and a server may bind in each worker): for the time of a
 * drain they are the owner's, for the next generation.
 */
#ifndef CPR_RESTART_DRAIN_ADOPTED_H
#define CPR_RESTART_DRAIN_ADOPTED_H

#include "restart/drain_worker.h"

/* A drain begins: there is none. */
void drain_adopted_begin(void);

/* A worker has passed this one and says what it is. What is not that is closed. Not holding the guard. */
void drain_adopt(int fd, const struct drain_worker_message *message);

/* The drain was called off: they are the workers' again. Not holding the guard. */
void drain_adopted_give_back(void);

#endif
