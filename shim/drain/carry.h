/* SPDX-License-Identifier: MIT */
/* Carry: which connections go to the next generation, and which end. */
#ifndef CPR_DRAIN_CARRY_H
#define CPR_DRAIN_CARRY_H

#include "fd/conn.h"
#include "model/fate.h"
#include "model/state.h"

struct carry_count {
	size_t carried, closed, cut;
};

/*
 * What becomes of this connection, which stands at a boundary or in a silence? `seen_whole`: the kernel has been asked
 * already whether it counts what we counted.
 */
enum fate carry_fate(const struct conn *c, int fd, bool seen_whole);

/*
 * What becomes of each connection: carried (idle, and of a protocol without state), or closed by the next generation as
 * the server would, after its last byte. Those that are not at a boundary are counted as cut, and closed so too if
 * `busy_too` (else they stay with this process). Into `into`, `most` at the most (the rest is closed by exec), after
 * the `taken` that stand there already and are carried (deliver_take_back); returns how many stand there then.
 */
size_t carry_choose(struct passed *into, size_t taken, size_t most, bool busy_too, struct carry_count *count);

/* Will this listener be there in the next generation, for connections to be accepted from it? */
bool carry_comes_again(const struct entry *listener);

#endif
