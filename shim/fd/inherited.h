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

/* Once, at the start, with the table and the heirlooms there: tags those that listen, or are bound to. */
void inherited_begin(void);

/* One that came in a message. */
void inherited_came(int fd);

/*
 * May connections that were accepted on them be carried? Not by this process's own restart if another process under cpr
 * has started it: others accept there, which would take our knocks for clients. But to that process they may be passed,
 * in its drain (inherited_pass).
 */
bool inherited_is_carried(void);
void inherited_pass(bool on);

/*
 * The process that started this one, or that one's, …: the nearest that is under cpr, and that this one may look at; 0:
 * none. A signal handler may call these.
 */
int inherited_ancestor(void);

/*
 * Has the process that started this one carried something for them, which a process that accepts gets? Asked before
 * this program's first accept(), and again when a drain was called off.
 */
extern _Atomic int inherited_unasked;

/* Registers the function that reads the answer from `sock`, for the listener with this inode. One only. */
void inherited_on_answer(void (*join)(int sock, uint64_t ino));

void inherited_ask(void);
void inherited_ask_again(void);

static inline void inherited_accepts(void)
{
	if (unlikely(atomic_load_explicit(&inherited_unasked, memory_order_acquire)))
		inherited_ask();
}

#endif
