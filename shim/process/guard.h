/* SPDX-License-Identifier: MIT */
/* The guard: which thread may touch the table, and the depth "inside the library". */
#ifndef CPR_PROCESS_GUARD_H
#define CPR_PROCESS_GUARD_H

#include "base/attr.h"
#include "model/settings.h"
#include "model/table.h"

#include <signal.h>
#include <stdatomic.h>

/* What this process is, made by wrap/init.c before main and never replaced: NULL before that. */
extern struct table *cpr__table;
extern struct settings cpr__settings;

struct guard_hold {
	sigset_t mask;
};

/* Once, with births there. 0, or -errno. */
int guard_init(void);

/*
 * From here on only this thread gets it; 0: every one again. While the library is made late, amid threads of the
 * program (process/light.h), what they do is noted no more than before.
 */
void guard_give_only(int tid);

/* Everything is there, and threads of the program may come: from here on base/guarded.h checks. */
void guard_begin(void);

/*
 * Takes the lock with every signal blocked, so that no handler of the program can meet a half-made change. False: this
 * process must not touch the table (no table yet; a vfork child, which runs on its parent's memory; a child that was
 * born while another thread held the lock). Never held over a call that can block, nor over a cancellation point
 * (base/raw.h): see guard_fill. A signal handler may call it.
 */
bool guard_lock(struct guard_hold *hold);
void guard_unlock(const struct guard_hold *hold);

/*
 * May this process read the table without the lock (table_peek)? Not before there is one, and not in a child that has
 * yet to work out what it is: it takes the lock first. A vfork child may: it reads its parent's. For any thread and any
 * handler.
 */
extern const volatile int *guard_readable;

static inline bool guard_may_read(void)
{
	return likely(*guard_readable) && likely(cpr__table != NULL);
}

/*
 * Only the signals: for what is done in one piece, also if the thread is cancelled meanwhile. They nest. For any
 * handler.
 */
void guard_block(sigset_t *before);
void guard_unblock(const sigset_t *before);

/*
 * All that these block: what may be blocked, and SIGCANCEL, which libc keeps for itself and leaves out of sigfillset().
 * glibc sends it to a thread that it has found in read(), and its handler ends that thread wherever it is by then: in a
 * handler of ours, or with the lock. pthread_setcancelstate() is the obvious remedy, and none: a signal that is on its
 * way comes all the same, and what ends the thread then is the call that enables cancellation again, in the handler,
 * with everything blocked, and with another result than PTHREAD_CANCELED. Blocked, the signal waits until the thread is
 * back in read(). Nor may libc's cancellation points be called meanwhile: they would wait for it.
 */
void guard_fill(sigset_t *all);

/*
 * "Inside the library": between these no restart takes place. For wrappers that do more than one thing: a restart
 * between bind() and the tag would leave the listener behind. They nest. Never around a call that can block. Any thread
 * and any handler; keep errno.
 */
extern cpr_thread int guard_depth;
void guard_come_in(void);
void guard_go_out(void);

static inline void guard_enter(void)
{
	if (guard_depth++ == 0)
		guard_come_in();
}

static inline void guard_exit(void)
{
	if (--guard_depth == 0)
		guard_go_out();
}

/*
 * Threads that come in now wait, and those that are inside are awaited: for 50 ms at most, since a thread may have died
 * there (a child of vfork that was killed). And the way back. The task's, or that of a thread which execs the program.
 */
void guard_close(bool close);

/*
 * A program of one thread forks without taking the lock. The task, started amid such a fork by a handler of the very
 * thread that forks, waits until it is over: else the child would have a half-made change in its table.
 */
void guard_await_fork(void);

/*
 * For a handler of ours, one at a time: may the thread that it has interrupted do what takes the guard? Not inside the
 * library, where a restart would wait for it, nor amid a fork, of its own or another thread's: that has the guard and
 * waits for malloc's lock, which the interrupted thread may hold. If it may, forks that begin now wait until
 * guard_lend_over.
 */
bool guard_lend(void);
void guard_lend_over(void);

/* The word of which bit 0 says whether there is a task. Once, when the library starts. */
void guard_beside(const _Atomic unsigned *task);

#endif
