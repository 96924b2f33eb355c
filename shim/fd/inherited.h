/* SPDX-License-Identifier: MIT */
/*
 * Listeners that this program did not bind: it was started with them. Connections that it accepts on them are tracked
 * as on its own listeners. The listeners themselves still belong to the process that bound them.
 */
#ifndef CPR_FD_INHERITED_H
#define CPR_FD_INHERITED_H

#include "base/attr.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Tags inherited sockets that listen or are bound. Called once, at the start, after the table and the heirlooms are
 * made.
 */
void inherited_begin(void);

/* The same for one that came in a message. */
void inherited_came(int fd);

/*
 * May connections that were accepted on them be carried? Not by this process's own restart if another process under cpr
 * started it: others accept there, and would take our knocks for clients. In the drain of that process they may be
 * passed to it (inherited_pass).
 */
bool inherited_is_carried(void);
void inherited_pass(bool on);

/* Returns the nearest ancestor under cpr that this process may look at; 0: none. A signal handler may call these. */
int inherited_ancestor(void);

/*
 * Has the ancestor carried connections for them, for a process that accepts? Asked before this program's first
 * accept(), and again after a drain was called off.
 */
extern _Atomic int inherited_unasked;

/* Registers one function, which reads the answer from `sock` for the listener with this inode. */
void inherited_on_answer(void (*join)(int sock, uint64_t ino));

void inherited_ask(void);
void inherited_ask_again(void);

static inline void inherited_accepts(void)
{
	if (unlikely(atomic_load_explicit(&inherited_unasked, memory_order_acquire)))
		inherited_ask();
}

#endif
