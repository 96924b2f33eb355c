/* SPDX-License-Identifier: MIT */
/* Forks of this process and its workers: how many there were, and whether one is under way. */
#ifndef CPR_PROCESS_FORKS_H
#define CPR_PROCESS_FORKS_H

#include <stdbool.h>

/* Once, with births and the page there. 0, or -errno. */
int forks_init(void);

/*
 * This process is the owner: it counts its forks in its own memory. Each page that a process touches after a fork costs
 * it a little.
 */
void forks_of_owner(void);

/* How many there were: no more workers than when this was the same. */
unsigned forks_births(void);

bool forks_under_way(void);

/*
 * Waits for those that are under way, 100 ms at most (one whose process has died meanwhile is never over). False: one
 * still is.
 */
bool forks_await(void);

#endif
