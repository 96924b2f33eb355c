/* SPDX-License-Identifier: MIT */
/* The guard: the lock of the table, and the depth "inside the library". */
#ifndef CPR_PROCESS_GUARD_H
#define CPR_PROCESS_GUARD_H

#include "base/attr.h"
#include "model/settings.h"
#include "model/table.h"

#include <signal.h>
#include <stdatomic.h>

/* Made by wrap/init.c before main, and never replaced. cpr__table is NULL before that. */
extern struct table *cpr__table;
extern struct settings cpr__settings;

struct guard_hold {
	sigset_t mask;
};

/* Called once, after birth_init. Returns 0, or -errno. */
int guard_init(void);

/*
 * From now on only this thread gets the lock; 0: every thread. For a library that is made late, while the program has
 * threads (process/light.h): until it is complete, their calls are not noted, as before.
 */
void guard_give_only(int tid);

/* The library is complete, and the program may start threads. From now on base/guarded.h checks. */
void guard_begin(void);

/*
 * Takes the lock, with every signal blocked: so no handler of the program meets a half-made change. Returns false if
 * this process must not touch the table. Then there is no table yet; or it is a vfork child on its parent's memory, is
 * in a seccomp sandbox, or was forked while another thread held the lock. Do not hold it over a call that can block,
 * nor over a cancellation point (base/raw.h): see guard_fill. A signal handler may call it. Keeps errno.
 */
bool guard_lock(struct guard_hold *hold);
void guard_unlock(const struct guard_hold *hold);

/*
 * May this process read the table without the lock (table_peek)? False before there is one. False in a child that has
 * not yet worked out what it is: it has to take the lock first. A vfork child may read its parent's. Any thread and any
 * signal handler may ask.
 */
extern const volatile int *guard_readable;

static inline bool guard_may_read(void)
{
	return likely(*guard_readable) && likely(cpr__table != NULL);
}

/*
 * Blocks only the signals, for work that has to complete even if the thread is cancelled. They nest. A signal handler
 * may call them.
 */
void guard_block(sigset_t *before);
void guard_unblock(const sigset_t *before);

/*
 * The set that these block: all signals that can be blocked, and SIGCANCEL. libc uses SIGCANCEL itself, and leaves it
 * out of sigfillset(). glibc sends it to a thread that is in read(). Its handler ends that thread wherever it is by
 * then, even in a handler of ours or with the lock. pthread_setcancelstate() does not help: a signal under way still
 * arrives. The call that enables cancellation again then ends the thread, in the handler, with everything blocked, and
 * with another result than PTHREAD_CANCELED. Blocked, the signal waits until the thread is back in read(). Meanwhile
 * call no cancellation point of libc: it would wait for the signal.
 */
void guard_fill(sigset_t *all);

/*
 * "Inside the library": no restart happens between these two. For wrappers with several steps: a restart between bind()
 * and the tag would lose the listener. They nest. Never around a call that can block. Any thread and any signal handler
 * may call them. Keep errno.
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
 * true: from now on, threads wait before they come in. Waits for those inside, 50 ms at most, since a thread may have
 * died there (a vfork child that was killed). false: opens again. For the task, or for a thread that execs the program.
 */
void guard_close(bool close);

/*
 * Waits for such a fork to end. A program with one thread forks without the lock. A handler of the forking thread may
 * start the task amid the fork, and the child would get a half-made change in its table.
 */
void guard_await_fork(void);

/*
 * For one handler of ours at a time: may the interrupted thread do work that takes the guard? Not inside the library,
 * where a restart would wait for it. Not amid a fork, its own or another thread's: that has the guard and waits for
 * malloc's lock, which the interrupted thread may hold. If it may, forks that begin now wait until guard_lend_over.
 */
bool guard_lend(void);
void guard_lend_over(void);

/* Sets the word whose bit 0 says whether there is a task. Called once, when the library starts. */
void guard_beside(const _Atomic unsigned *task);

#endif
