/* SPDX-License-Identifier: MIT */
/*
 * What crosses a restart, as rows of one table. Leaving walks it down, undoing walks it up, arriving walks it once
 * more.
 */
#ifndef CPR_RESTART_PARTS_H
#define CPR_RESTART_PARTS_H

#include "base/text.h"
#include "model/state.h"

#include <signal.h>

enum {
	PARTS_PASSED_MAX = 1 << 17, /* connections; exec closes the rest */
};

/* One passage, on its way out or in. */
struct crossing {
	struct state state;   /* with state.passage; leaving fills it, arriving reads it */
	const sigset_t *mask; /* leaving by the program's own exec: the signals that it had blocked */
	bool wrapper;         /* ... of a script that was no generation of the server */
};

/*
 * Fills the state, row by row. Returns 0; or -errno, with the reason in `why` and everything undone. What the state
 * points to stays valid until the next call. Holding the guard. A signal handler may call it.
 */
int parts_collect(struct crossing *c, struct text *why);

/* The exec failed: undoes parts_collect, in reverse order. Holding the guard. */
void parts_undo(struct crossing *c);

/*
 * In the next generation, before its program runs: takes over what the state holds. Returns 0; or -errno, and this
 * process goes on without cpr.
 */
int parts_arrive(struct crossing *c);

#endif
