/* SPDX-License-Identifier: MIT */
/* What the program has closed and may bind again: its socket lives on elsewhere, so that the kernel would refuse. */
#ifndef CPR_FD_CLOSED_H
#define CPR_FD_CLOSED_H

#include "base/attr.h"
#include "model/table.h"

#include <stdbool.h>
#include <stdint.h>

/* Filled by init. */
struct closed_hooks {
	bool (*serves)(void); /* before, what the program closes was only tried; and a door is nothing to hold */
	/* the owner closes the last number of what lives on elsewhere; the number is still open */
	void (*closes)(int fd);
};

void closed_begin(const struct closed_hooks *given);

/*
 * The program closes e. True: e has become an orphan, which a bind() of the same address claims. *lives_on: its socket
 * stays open somewhere, and closed_tell is due. Holding the guard.
 */
bool closed_give_back(struct entry *e, bool *lives_on);

/* The socket at `fd` lives on, and this number is about to be closed. Without the guard. */
void closed_tell(int fd);

/* Until when such an orphan waits: CLOCK_MONOTONIC, ns; 0: nothing was closed. */
int64_t closed_until(void);

/* Was something closed, and is its time over? Then it says so once. */
bool closed_is_over(int64_t now);

#endif
