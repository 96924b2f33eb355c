/* SPDX-License-Identifier: MIT */
/* Carry: decides which connections go to the next generation, and which are closed. */
#ifndef CPR_DRAIN_CARRY_H
#define CPR_DRAIN_CARRY_H

#include "fd/conn.h"
#include "model/fate.h"
#include "model/state.h"

struct carry_count {
	size_t carried, closed, cut;
};

/*
 * Returns the fate of a connection at a boundary or in a silence. `seen_whole`: the kernel's byte counts were compared
 * with ours already.
 */
enum fate carry_fate(const struct conn *c, int fd, bool seen_whole);

/*
 * Decides the fate of each connection. Idle ones of a protocol without state are carried. The next generation closes
 * the others as the server would, after the last byte. Those that are not at a boundary count as cut; with `busy_too`
 * they are closed in the same way, else they stay with this process. Adds to the `taken` carried ones that are in
 * `into` already (deliver_take_back), up to `most`; exec closes the rest. Returns how many are there then.
 */
size_t carry_choose(struct passed *into, size_t taken, size_t most, bool busy_too, struct carry_count *count);

/* Will the next generation have this listener, to accept connections from it? */
bool carry_comes_again(const struct entry *listener);

#endif
