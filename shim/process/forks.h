/* SPDX-License-Identifier: MIT */
/* Counts the forks of this process and its workers: those so far, and those under way. */
#ifndef CPR_PROCESS_FORKS_H
#define CPR_PROCESS_FORKS_H

#include <stdbool.h>

/* Called once, after birth_init and page_init. Returns 0, or -errno. */
int forks_init(void);

/*
 * The owner counts its forks in its own memory, and not in the page: each page that a process touches after a fork
 * costs a fault.
 */
void forks_of_owner(void);

/* Returns the number so far. As long as it stays the same, there are no new workers. */
unsigned forks_births(void);

bool forks_under_way(void);

/*
 * Waits for forks under way, 100 ms at most: one whose process has died never completes. Returns false if one is still
 * under way.
 */
bool forks_await(void);

#endif
