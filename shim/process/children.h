/* SPDX-License-Identifier: MIT */
/* Children of the last generation: they are this process's, and its program never heard of them. */
#ifndef CPR_PROCESS_CHILDREN_H
#define CPR_PROCESS_CHILDREN_H

#include "model/state.h"

#include <stdatomic.h>

enum { CHILDREN_MAX = 4096 };

/* What the last generation left behind. */
void children_adopt(const struct child *children, size_t n);

/*
 * After a restart all children that there are: the program has made none yet, and between the list and the exec some
 * may have been born. Of those in the list it is known which share a listener.
 */
void children_adopt_all(const struct child *children, size_t n);

/* Does one of them live that shares a listener, and with it what stands in the open file description (O_NONBLOCK)? */
bool children_share(void);

/* Is this one of them? */
bool children_shares(int pid);

/* A warning for the caller of the restart, for each of those. */
void children_warn(struct text *t);

/* How many of them are left. While it is 0, no wait of the program costs more than a look at it. */
extern _Atomic int children_left;

/* Reaps those that are dead. How many are left. A signal handler may call it. */
int children_reap(void);

/*
 * The same of those that are dead for a while: no zombie stays, and a program that waits for one by its number, as soon
 * as it hears of its end, finds it.
 */
int children_tidy(void);

/*
 * The kernel has told the program's wait of this process: is it one of those? `gone`: it has ended, and was waited for
 * (a stop is only swallowed). False in a forked child.
 */
bool children_swallow(int pid, bool gone);

/* Is this one of them? */
bool children_knows(int pid);

/* Are there children, and none that the program has made? */
bool children_are_strangers(void);

/*
 * For the next state, at the most CHILDREN_MAX: all children of this process, dead or alive; or only those that its
 * program does not know. How many.
 */
size_t children_all(struct child *into);
size_t children_unknown(struct child *into);

#endif
