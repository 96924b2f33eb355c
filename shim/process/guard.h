/* SPDX-License-Identifier: MIT */
/* Who may touch the table: the lock, the depth "inside the shim", forks, and which process is the owner. */
#ifndef CPR_PROCESS_LOCK_H
#define CPR_PROCESS_LOCK_H

#include "base/attr.h"
#include "model/settings.h"
#include "model/table.h"

#include <signal.h>
#include <stdatomic.h>

/* What this process is, made by wrap/init.c before main and never replaced: NULL before that. */
extern struct table *cpr__table;
extern struct settings cpr__settings;

/* Workers are the forked processes that have not exec'd. */
enum { ROSTER_MAX = 4096 };

/* Maps the shared page (named for the tools: model/protocol.h; `filters` are seccomp's) and takes ownership. 0, or -errno: then this process goes on without cpr. */
int page_init(int filters);

/* The descriptor of the shared page, and its inode; -1 if it is not open any more. An image that the program has exec'ed itself goes on with it, and so knows its workers. */
int page_fd_of(uint64_t *ino);
void page_inherit(int fd, uint64_t ino);

/* The page of the generation that a restart has ended: its workers read there that it is gone, and that what they passed on is not theirs any more. */
void page_let_go(int fd, uint64_t ino);
#define PAGE_GONE UINT64_MAX /* page_drain.nonce, then */

struct guard_hold {
	sigset_t mask;
};

/*
 * Takes the lock with every signal blocked, so that no handler of the program can meet a half-made change. False: this process must not
 * touch the table (no table yet; a vfork child, which runs on its parent's memory; a child that was born while another thread held the
 * lock). Never held over a call that can block, nor over a cancellation point (base/raw.h): see guard_fill. A signal handler may call it.
 */
bool guard_lock(struct guard_hold *hold);
void guard_unlock(const struct guard_hold *hold);

/*
 * May this process read the table without the lock (table_peek)? Not before there is one, and not in a child that has yet to work out what it is: it takes the lock
 * first. A vfork child may: it reads its parent's. For any thread and any handler.
 */
extern const volatile int *birth_readable;

static inline bool guard_may_read(void)
{
	return likely(*birth_readable) && likely(cpr__table != NULL);
}

/* Only the signals: for what is done in one piece, also if the thread is cancelled meanwhile. They nest. For any handler. */
void guard_block(sigset_t *before);
void guard_unblock(const sigset_t *before);

/*
 * All that these block: what may be blocked, and SIGCANCEL, which libc keeps for itself and leaves out of sigfillset(). glibc sends it to a thread that it has found in read(), and its handler
 * ends that thread wherever it is by then: in a handler of ours, or with the lock. pthread_setcancelstate() is the obvious remedy, and none: a signal that is on its way comes all the same, and what
 * ends the thread then is the call that enables cancellation again, in the handler, with everything blocked, and with another result than PTHREAD_CANCELED. Blocked, the signal waits
 * until the thread is back in read(). Nor may libc's cancellation points be called meanwhile: they would wait for it.
 */
void guard_fill(sigset_t *all);

/*
 * "Inside the shim": between these a doorbell is only noted, and answered by the outermost guard_exit. For wrappers that do more than one
 * thing: a restart between bind() and the tag would leave the listener behind.
 */
extern cpr_thread int guard_depth;
extern cpr_thread bool guard_noted;
void guard_answer_noted(void);

static inline void guard_enter(void)
{
	guard_depth++;
	atomic_signal_fence(memory_order_seq_cst);
}

static inline void guard_exit(void)
{
	atomic_signal_fence(memory_order_seq_cst);
	if (--guard_depth == 0 && unlikely(guard_noted))
		guard_answer_noted();
}

/* What to call at the end of the outermost wrapper when a doorbell was noted; the doorbell's. */
void guard_when_noted(void (*answer)(void));

/* `size` bytes, zeroed, that the kernel clears in every child with its own copy of our memory; NULL: there is no room. Once, at the start. */
void *birth_cleared(size_t size);

/* What is to be done before each fork from now on, without the guard held. */
void birth_when_forking(void (*before)(void));

/* What such a child must forget of its parent's, when it first asks for something. Called by any thread, maybe in a signal handler. At the start. */
void birth_when_born(void (*forget)(void));

/* How to tell children of the last generation, who started in the same clock tick as this image, from its own. */
void roster_when_stranger(bool (*is)(int pid));

/* Has this process one thread only? Then nothing changes but by the caller. "No" where libc cannot tell. */
bool birth_is_single_threaded(void);

/* Does this process run on its own memory? False in a vfork child. */
bool birth_own_memory(void);

/*
 * Is this the process that restarts? The one that generation 1 is; after a daemonising fork, the child that is left when its parents are
 * gone (worked out when asked: the parent may be gone a moment after the child asked first). Takes ownership where it has fallen to us.
 */
bool roster_is_owner(void);
int roster_owner(void);

/* When a process started, in clock ticks since boot; 0 if it is gone or a zombie. */
uint64_t roster_start_time(int pid);

/* What a process has used of the processors, ns. (/proc/PID/stat tells it in steps of 10 ms: a few microseconds may look like as many.) */
int64_t roster_cpu_time(int pid);

/* Was this pid entered as a worker, by itself or by roster_workers, and has not said that it execs? It may be dead. */
bool roster_is_worker(int pid);

/*
 * Pids of live workers of the owner into `pids`; how many. These and the three below look for those who were forked and never were heard of: in the lists of /proc, when there was a
 * fork since the last time. One that is forked in this very moment is waited for, 100 ms at the most.
 */
size_t roster_workers(int *pids, size_t most);

/* How many forks there were: no more workers than when this was the same. */
unsigned roster_births(void);

/* Workers alive, this process not among them if it is one. */
size_t roster_worker_count(void);

/*
 * Workers that bind one listener each: each has a copy of every orphan, and must take another one than the others. This worker's number among those who claim, from 0 on; that it has claimed
 * one; and how many were claimed so, which the owner still has as orphans.
 */
int roster_claimer(void);
void roster_claimed(void);
int roster_claims(void);

/* This worker has no slow requests. And for the owner: how many workers have not said so; `ring`: asks them. */
void roster_worker_calm(uint64_t survey);
size_t roster_workers_not_calm(uint64_t survey, bool ring);

/* Is there any, also if it is being forked at this moment? */
bool roster_has_workers(void);

/* A drain of all processes: where they pass their connections to (0: there is none), and until when (CLOCK_MONOTONIC, ns). Of the shared page; NULL before page_init. */
struct page_drain {
	_Atomic uint64_t survey; /* before it: who has no slow requests says so with this number; 0: nobody asks */
	_Atomic uint64_t nonce;
	_Atomic int64_t deadline;
};
struct page_drain *page_shared_drain(void);

/* Workers are looked for the next time even if nobody has called fork(): who was born by _Fork() or clone() has passed by us. */
void roster_look_anyway(void);

/* Is that process in the middle of its exec, with descriptors that this will close? Then that is waited for, 20 ms at the most. */
void roster_await_exec(int pid);

/* This worker becomes another program; and the way back. */
void roster_worker_leaves(void);
void roster_worker_stays(void);

#endif
