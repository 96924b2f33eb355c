/* SPDX-License-Identifier: MIT */
/* Surplus: listeners of a group with one name (SO_REUSEPORT), of which this generation wants fewer than the last. */
#ifndef CPR_RESTART_SURPLUS_H
#define CPR_RESTART_SURPLUS_H

#include <stddef.h>

/* How many orphans are such: another listener of the same name was claimed. */
size_t surplus_count(void);

/*
 * When this generation is ready. The kernel goes on sending clients to them, and none of these would be answered. So
 * what stands in their queues comes through accept() on a claimed one, as carried connections do, and they are closed.
 * In the owner.
 */
void surplus_close(void);

#endif
