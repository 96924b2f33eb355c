/* SPDX-License-Identifier: MIT */
/*
 * Listeners that the program closes and may bind again. Their socket is still open elsewhere, so the kernel would
 * refuse the bind().
 */
#ifndef CPR_FD_CLOSED_H
#define CPR_FD_CLOSED_H

#include "base/attr.h"
#include "model/table.h"

#include <stdbool.h>
#include <stdint.h>

/* Filled by init. */
struct closed_hooks {
	bool (*serves)(void); /* does the program serve? Before, it only tries addresses; a door is nothing to keep */
	/* the owner closes the last number of a socket that is open elsewhere; the number is still open */
	void (*closes)(int fd);
};

void closed_begin(const struct closed_hooks *given);

/*
 * The program closes e. Returns true if e is now an orphan, which a bind() of the same address claims. *lives_on: its
 * socket stays open elsewhere, and closed_tell has to follow. Holding the guard.
 */
bool closed_give_back(struct entry *e, bool *lives_on);

/* The socket at `fd` is open elsewhere, and this number is about to be closed. Not holding the guard. */
void closed_tell(int fd);

/* Returns how long such an orphan waits: CLOCK_MONOTONIC, ns; 0: nothing was closed. */
int64_t closed_until(void);

/* Was something closed, and is its time over? Returns true once for that. */
bool closed_is_over(int64_t now);

#endif
