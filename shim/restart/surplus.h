/* SPDX-License-Identifier: MIT */
/* Surplus: listeners of a group with one name (SO_REUSEPORT), of which this generation needs fewer than the last. */
#ifndef CPR_RESTART_SURPLUS_H
#define CPR_RESTART_SURPLUS_H

#include <stddef.h>

/* Returns how many orphans are surplus: another listener of their name was claimed. */
size_t surplus_count(void);

/*
 * Closes them, when this generation is ready, in the owner. The kernel still sends clients to them, and no process
 * would answer these. So the clients in their queues are carried: they come through accept() on a claimed listener.
 */
void surplus_close(void);

#endif
