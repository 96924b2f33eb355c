/* SPDX-License-Identifier: MIT */
/* The roster: which process is the owner, and which are its workers, the forked processes that have not exec'ed. */
#ifndef CPR_PROCESS_ROSTER_H
#define CPR_PROCESS_ROSTER_H

#include "process/page.h"

#include <stdbool.h>
#include <stddef.h>

enum { ROSTER_MAX = PAGE_WORKERS };

/* Makes this process the owner. Called once, after births and the page are set up. 0, or -errno. */
int roster_init(void);

/* Registers the test that tells children of the last generation from this one's, if both started in one clock tick. */
void roster_when_stranger(bool (*is)(int pid));

/*
 * Decides which process is the owner, and takes ownership if it has passed to this process. The owner is the process of
 * generation 1; after a daemonising fork, the child that remains when its parents have ended. It is decided at each
 * call, since the parent may end just after the child's first call. True: this process is the owner.
 */
bool roster_elect(void);
int roster_owner(void);

/* After a program's own exec: takes over the page of the last image, and with it the workers. */
void roster_inherit(int fd, uint64_t ino);
bool roster_is_inherited(void);

/* Is this pid entered as a worker that has not announced an exec? It may be dead. */
bool roster_is_worker(int pid);

/*
 * Writes the pids of the owner's live workers, `most` at most, into `pids`. Returns their number. All functions that
 * look at the workers search /proc for those that have not entered themselves, if a fork has happened since the last
 * search. They wait for a fork under way, 100 ms at most.
 */
size_t roster_workers(int *pids, size_t most);

/* The number of live workers, without this process. */
size_t roster_worker_count(void);

/*
 * For workers that bind a listener each. Each worker has a copy of every orphan, and must claim another one than the
 * others. roster_claimer: this worker's number among the claiming ones, from 0. roster_claimed: counts a claim of this
 * worker. roster_claims: the number of such claims; the owner still has these orphans.
 */
int roster_claimer(void);
void roster_claimed(void);
int roster_claims(void);

/* This worker has no slow requests. For the owner: how many workers have not reported that; `ring`: asks them. */
void roster_worker_calm(uint64_t survey);
size_t roster_workers_not_calm(uint64_t survey, bool ring);

/* The same for a command of a handover: this worker has carried it out; the number of those that have not. */
void roster_worker_gated(uint64_t wish);
size_t roster_workers_not_gated(uint64_t wish, bool ring);

/* The owner has carried it out: workers that it forks from now on inherit the state of its gate. */
void roster_owner_gated(void);

/* Is there a worker? One whose fork is under way counts. */
bool roster_has_workers(void);

/* The next search looks into /proc even without a fork(): _Fork() and clone() make workers without our wrapper. */
void roster_look_anyway(void);

/* This worker execs another program; the exec failed. */
void roster_worker_leaves(void);
void roster_worker_stays(void);

#endif
