/* SPDX-License-Identifier: MIT */
/* Drain: waits until every accepted connection is between two requests, and freezes it there. */
#ifndef CPR_DRAIN_DRAIN_H
#define CPR_DRAIN_DRAIN_H

#include "drain/drain_phase.h"
#include "process/active_calls.h"
#include "fd/conn.h"

#include <poll.h>
#include <sys/select.h>

/* Once, at the start. */
void drain_init(void);

/*
 * Call these around each call that could take data from a connection (or, with c NULL, a connection from a listener).
 * drain_enter returns 0: make the call. -EAGAIN: the descriptor is frozen and does not block. For a blocking one it
 * waits until the drain is called off, or returns -EINTR after a signal of the program. `now`: the call does not block
 * in any case (MSG_DONTWAIT). drain_exit follows a call that was made, after its result was noted.
 */
static inline int drain_enter(int fd, struct conn *c, bool now);
static inline void drain_exit(void);

/* drain_enter while a drain is on. */
int drain_hold_back(struct active_call *me, int fd, struct conn *c, bool now);

/* Waits until the drain is called off, or a signal of the program comes. Returns 0, or -EINTR. */
int drain_park(void);

/*
 * From now on, until drain_exit, the thread is inside a call at this number. Either a drain that begins sees the
 * thread, or the thread sees the drain. Returns its place, or NULL.
 */
static inline struct active_call *drain_come_in(int fd)
{
	struct active_call *me = active_calls_self;

	if (unlikely(!me || atomic_load_explicit(&me->tid, memory_order_relaxed) != active_calls_self_tid))
		me = active_calls_join();
	if (likely(me != NULL))
		atomic_store_explicit(&me->fd, fd, memory_order_relaxed);
	/*
	 * the other half of this fence is membarrier(2) in drain_begin: a store and a load here, instead of a full
	 * barrier at each read
	 */
	atomic_signal_fence(memory_order_seq_cst);
	return me;
}

static inline int drain_enter(int fd, struct conn *c, bool now)
{
	struct active_call *me = drain_come_in(fd);

	return likely(!atomic_load_explicit(&drain_active, memory_order_relaxed)) ? 0 : drain_hold_back(me, fd, c, now);
}

/*
 * Is this thread between the end of a recvmsg() in the kernel and its note of what arrived? `fd` is the value of its
 * place in process/active_calls.h. For the task.
 */
bool drain_receives(int tid, int fd);

/* Marks a recvmsg() on something that is no connection: it is never held back. */
static inline void drain_begin_receiving(void)
{
	drain_come_in(ACTIVE_CALLS_RECEIVES);
}

static inline void drain_note_received(void)
{
	if (likely(active_calls_self != NULL))
		atomic_store_explicit(&active_calls_self->fd, ACTIVE_CALLS_NOTES, memory_order_release);
}

static inline void drain_exit(void)
{
	if (likely(active_calls_self != NULL))
		atomic_store_explicit(&active_calls_self->fd, -1, memory_order_release);
}

/*
 * During a drain, the thread is about to wait on this epoll set. Connections in it that it has answered, and that wait
 * for input, are at a boundary.
 */
void drain_waits(int epfd);

/* Shared by drain/drain.c and drain/drain_wait.c: a drain begins. */
void drain_forget_waiters(void);

/* ppoll and pselect (mask NULL: poll and select) during a drain: frozen descriptors never become ready. */
int drain_poll(struct pollfd *fds, nfds_t n, int timeout_ms, const sigset_t *mask);
int drain_select(int n, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout, const sigset_t *mask);

/* The answer was written: during a drain the connection freezes at once. */
void drain_wrote(int fd, struct conn *c);

/* Begins a drain of handover (drain_passes). */
void drain_begin_passing(void);

/*
 * Afterwards, every thread that starts such a call sees what was stored before; every other one is seen in its place
 * (process/active_calls.h).
 */
void drain_barrier(void);

/* ---- for the doorbell's handler, all signals blocked ---- */

void drain_begin(void);

/* Freezes the connections at a boundary. Returns how many are not at one yet. */
size_t drain_busy(void);

/* How many of those that drain_busy last counted can reach no boundary before their end. */
size_t drain_endless(void);

/*
 * Interrupts each thread in a blocking call that could take a connection or data. The thread then parks, or its call
 * returns EAGAIN. Returns the number of such threads.
 */
size_t drain_call_out(void);

/* Does this process accept connections, or have one? */
bool drain_serves(void);

/*
 * From here on, no thread may read from a frozen connection even once. True: all connections are at a boundary. False:
 * one is not, and the drain goes on; with `anyway`, the drain ends nevertheless.
 */
bool drain_close(bool anyway);

/* Wakes the parked threads. Each checks whether it must park again. */
void drain_wake(void);

/* The restart is called off: thaws everything. */
void drain_thaw(void);

#endif
