/* SPDX-License-Identifier: MIT */
/* Children of the last generation: this process is their parent, and its program does not know them. */
#ifndef CPR_PROCESS_CHILDREN_H
#define CPR_PROCESS_CHILDREN_H

#include "model/state.h"

#include <stdatomic.h>

enum { CHILDREN_MAX = 4096 };

/* Takes over the list of the last generation. */
void children_adopt(const struct child *children, size_t n);

/*
 * Takes over all children that exist. After a restart the program has made none yet, and some may have been forked
 * between the list and the exec. The list tells which of them share a listener.
 */
void children_adopt_all(const struct child *children, size_t n);

/* Is one of them alive that shares a listener? It shares the open file description as well, and so O_NONBLOCK. */
bool children_share(void);

/* Is this such a child? */
bool children_shares(int pid);

/* Adds a warning for the caller of the restart, for each of those. */
void children_warn(struct text *t);

/* The number of them that are left. While it is 0, a wait() of the program costs only this check. */
extern _Atomic int children_left;

/* Reaps those that are dead, and returns how many are left. A signal handler may call it. */
int children_reap(void);

/*
 * The same for those that have been dead for a while. So no zombie stays, and a program that waits for one by its pid
 * right after its end still finds it.
 */
int children_tidy(void);

/*
 * The kernel returned this pid to a wait() of the program: is it one of those? `gone`: it has ended and was reaped; a
 * stop is only hidden from the program. False in a forked child.
 */
bool children_swallow(int pid, bool gone);

/* Is this one of them? */
bool children_knows(int pid);

/* Are there children, and none that the program made? */
bool children_are_strangers(void);

/*
 * For the next state, CHILDREN_MAX at most: all children of this process, dead or alive; or those that its program does
 * not know. Both return the number.
 */
size_t children_all(struct child *into);
size_t children_unknown(struct child *into);

#endif
