/* SPDX-License-Identifier: MIT */
/* The roster: which process is the owner, and which are its workers, the forked processes that have not exec'ed. */
#ifndef CPR_PROCESS_ROSTER_H
#define CPR_PROCESS_ROSTER_H

#include "process/page.h"

#include <stdbool.h>
#include <stddef.h>

enum { ROSTER_MAX = PAGE_WORKERS };

/* Once, with births and the page there: this process is the owner. 0, or -errno. */
int roster_init(void);

/* How to tell children of the last generation, which started in the same clock tick as this image, from its own. */
void roster_when_stranger(bool (*is)(int pid));

/*
 * Settles which process restarts: the one that generation 1 is; after a daemonising fork, the child that is left when
 * its parents are gone (worked out when asked: the parent may be gone a moment after the child asked first). Takes
 * ownership where it has fallen to this process. True: it is this one.
 */
bool roster_elect(void);
int roster_owner(void);

/* After a program's own exec: goes on with the page of the last image, and so knows its workers. */
void roster_inherit(int fd, uint64_t ino);
bool roster_is_inherited(void);

/* Was this pid entered as a worker, by itself or by roster_workers, and has not said that it execs? It may be dead. */
bool roster_is_worker(int pid);

/*
 * Pids of live workers of the owner into `pids`; how many. These and the three below look for those that were forked
 * and never were heard of: in the lists of /proc, when there was a fork since the last time. One that is forked in this
 * very moment is waited for, 100 ms at the most.
 */
size_t roster_workers(int *pids, size_t most);

/* Workers alive, this process not among them if it is one. */
size_t roster_worker_count(void);

/*
 * Workers that bind one listener each: each has a copy of every orphan, and must take another one than the others. This
 * worker's number among those who claim, from 0 on; that it has claimed one; and how many were claimed so, which the
 * owner still has as orphans.
 */
int roster_claimer(void);
void roster_claimed(void);
int roster_claims(void);

/* This worker has no slow requests. And for the owner: how many workers have not said so; `ring`: asks them. */
void roster_worker_calm(uint64_t survey);
size_t roster_workers_not_calm(uint64_t survey, bool ring);

/* The same of what a handover wants: this worker has done it; how many have not. */
void roster_worker_gated(uint64_t wish);
size_t roster_workers_not_gated(uint64_t wish, bool ring);

/* The owner has fulfilled it: what it forks from now on is born with its gate as the owner's is. */
void roster_owner_gated(void);

/* Is there any, also if it is being forked at this moment? */
bool roster_has_workers(void);

/*
 * Workers are looked for the next time even if fork() was not called: what was born by _Fork() or clone() has passed
 * by us.
 */
void roster_look_anyway(void);

/* This worker becomes another program; and the way back. */
void roster_worker_leaves(void);
void roster_worker_stays(void);

#endif
