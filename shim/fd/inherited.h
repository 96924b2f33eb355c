/* SPDX-License-Identifier: MIT */
/* Listeners that this program did not bind: it was started with them. What is accepted on them is followed as on its own; they themselves are whose they were. */
#ifndef CPR_FOREIGN_H
#define CPR_FOREIGN_H

#include "base/attr.h"

#include <stdatomic.h>
#include <stdbool.h>

/* Once, at the start, with the table and the heirlooms there: tags those that listen, or are bound to. */
void foreign_begin(void);

/* One that came in a message. */
void foreign_came(int fd);

/* What the last generation has carried for them is knocked for: they listen already. */
void foreign_deliver(void);

/*
 * May connections that were accepted on them be carried? Not by this process's own restart if another process under cpr has started it: others accept there, who would take our knocks for
 * clients. But to that process they may be passed, in its drain (foreign_pass).
 */
bool foreign_is_carried(void);
void foreign_pass(bool on);

/* The process that started this one, or that one's, …: the nearest that is under cpr, and that this one may look at; 0: none. A signal handler may call these. */
int foreign_ancestor(void);

/* Has the process that started this one carried something for them, which whoever accepts on them gets? Asked before this program's first accept(), and again when a drain was called off. */
extern _Atomic int foreign_unasked;
void foreign_ask(void);
void foreign_ask_again(void);

static inline void foreign_accepts(void)
{
	if (unlikely(atomic_load_explicit(&foreign_unasked, memory_order_acquire)))
		foreign_ask();
}

#endif
