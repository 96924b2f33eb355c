/* SPDX-License-Identifier: MIT */
/*
 * The things that cross a restart, as rows of one table: leaving walks it down, undoing walks it up, arriving walks it
 * once more.
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
	bool wrapper;         /* ... of a script, which was no generation of the server */
};

/*
 * Fills the state, row by row. 0; or -errno, the reason in `why`, and nothing is changed: what was collected is undone.
 * What the state points to stays valid until the next call. Holding the guard. A signal handler may call it.
 */
int parts_collect(struct crossing *c, struct text *why);

/* The exec failed: undoes what parts_collect changed, in the reverse order. Holding the guard. */
void parts_undo(struct crossing *c);

/*
 * In the next generation, before its program runs: takes over what the state holds. 0, or -errno: this process goes on
 * without cpr.
 */
int parts_arrive(struct crossing *c);

#endif
