/* SPDX-License-Identifier: MIT */
/* Drain: freeze at the boundary, count what is not there, thaw. */
#define _GNU_SOURCE
#include "drain/drain.h"

#include "process/doorbell.h"
#include "drain/freeze.h"
#include "drain/kinship.h"
#include "process/birth.h"
#include "process/guard.h"
#include "base/io.h"
#include "base/log.h"
#include "process/procinfo.h"
#include "base/next.h"
#include "base/pool.h"
#include "base/raw.h"
#include "fd/tagging.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Atomic bool drain_over_here; /* see drain_close */
static _Atomic int parked_word; /* changes when a drain ends */

static bool drain_blocks(int fd)
{
	return !(next_fcntl(fd, F_GETFL, NULL) & O_NONBLOCK);
}

/*
 * Waits until the drain ends. The doorbell's ticks interrupt the futex call each time; a restart may leave from here. A
 * signal of the program interrupts the wait as it would the call (with SA_RESTART the kernel goes on by itself):
 * servers stop their threads in this way. Returns 0, or -EINTR.
 */
static int park_since(int word)
{
	while (atomic_load(&drain_active) && atomic_load(&parked_word) == word) {
		unsigned rings = doorbell_rings;

		if (next_sys(SYS_futex, &parked_word, FUTEX_WAIT_PRIVATE, word, NULL) && errno == EINTR &&
		    doorbell_rings == rings)
			return -EINTR;
	}
	return 0;
}

int drain_park(void)
{
	return park_since(atomic_load(&parked_word));
}

/*
 * Did this thread learn of the connection before the freeze, and reads only now? An event loop works through a batch of
 * events. Some loops take EAGAIN on a readable descriptor for the end of the stream (EventMachine closes it). In a
 * blocking read a thread would sleep here, with the rest of its batch undone. So the thread may read, answer, and then
 * the connection freezes again. A client that asks without a pause would repeat that without end, so a thread that may
 * block here does it once in a row for each client. (Not once in each drain: an event loop of blocking sockets then
 * slept at its second late client, and all others were cut.) A thread does not do it at all if it has answered this
 * client and has not waited for an event since: it serves no other client, and no event has reached it.
 */
static cpr_thread struct {
	int drain; /* in which this thread has been let in, as parked_word counts them */
	const struct conn *to; /* NULL: to a new client */
} let_in;

static bool first_time(const struct conn *c)
{
	int drain = atomic_load(&parked_word) + 1;

	if (let_in.drain == drain && (!c || let_in.to == c))
		return false;
	let_in.drain = drain;
	let_in.to = c;
	return true;
}

static bool comes_late(int fd, struct conn *c, bool now)
{
	if (atomic_load(&drain_over_here) || c->flags & CONN_FIN_SENT || !conn_has_unread(fd))
		return false;
	if (!now && drain_blocks(fd) && (conn_answered_here(c) || !first_time(c)))
		return false;
	freeze_undo(c);
	return true;
}

static bool client_waits(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return !atomic_load(&drain_over_here) && drain_blocks(fd) && raw_poll(&p, 1, 0) > 0 && first_time(NULL);
}

/*
 * Its client has ended it: it is not carried, and the program is to see that. Parked, its thread slept for as long as
 * this generation drained; and if the program has no other thread, all its clients waited, and were cut.
 */
static bool lets_end(int fd, struct conn *c)
{
	if (!conn_peer_ended(fd))
		return false;
	if (c->flags & CONN_FROZEN)
		freeze_undo(c);
	return true;
}

int drain_hold_back(struct active_call *me, int fd, struct conn *c, bool now)
{
	int saved_errno = errno;

	for (;;) {
		/* before it freezes: its client may end it, so that pass_all lets it go, before this thread parks */
		int word = atomic_load(&parked_word);

		if (!drain_is_ours())
			return 0;
		if (c && c->flags & CONN_LEAVING)
			goto frozen;
		if (c && c->state == CONN_ANSWERED)
			conn_set(c, CONN_ASKED); /* this is the asking */
		if (c && !(c->flags & CONN_FROZEN) && !conn_may_stop(c, fd, io_now()) &&
		    !(!now && drain_blocks(fd) && conn_settle_unseen(c, fd)))
			return 0;
		if (c && lets_end(fd, c))
			return 0;
		if (c ? !freeze_conn(fd, c, CONN_IN_PROGRESS, me) || comes_late(fd, c, now) : client_waits(fd))
			return 0;
frozen:
		drain_exit();
		if (now || !drain_blocks(fd))
			return -EAGAIN;
		if (park_since(word))
			return -EINTR;
		if (c && conn_at(fd) != c)
			return 0; /* it has been passed on: what stands there has ended, and says so */
		errno = saved_errno;
		if (me)
			atomic_store_explicit(&me->fd, fd, memory_order_relaxed);
		atomic_signal_fence(memory_order_seq_cst);
	}
}

void drain_wrote(int fd, struct conn *c)
{
	if (drain_is_ours() && conn_at_boundary(c, c->wrote_at))
		freeze_conn(fd, c, CONN_IN_PROGRESS, active_calls_self);
}

/* ---- the handler's part ---- */

/* In a forked child: a drain that its parent is in is not its own (its owner rings it for that). */
static void drain_forget(void)
{
	if (likely(!atomic_load(&drain_active)))
		return;
	atomic_store(&drain_active, false);
	atomic_store(&active_calls_come_out, false);
	atomic_store(&drain_over_here, false);
	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);

		if (c)
			conn_clear(c, CONN_FROZEN | CONN_POLLED);
	}
}

void drain_init(void)
{
	active_calls_init();
	freeze_init();
	birth_when_born(drain_forget);
	next_sys(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
}

/* Every thread has seen what was stored before, or what it stored before is seen after. */
static void barrier(void)
{
	if (next_sys(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0))
		next_sys(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

void drain_barrier(void)
{
	int saved_errno = errno;

	barrier();
	errno = saved_errno;
}

void drain_begin_passing(void)
{
	int saved_errno = errno;

	atomic_store(&drain_passes, true);
	atomic_store(&drain_active, true);
	atomic_store(&active_calls_come_out, true);
	barrier();
	errno = saved_errno;
}

void drain_begin(void)
{
	int saved_errno = errno;

	kinship_look();
	atomic_store(&drain_active, true);
	atomic_store(&active_calls_come_out, true);
	barrier();
	freeze_listeners(true);
	drain_forget_waiters();
	errno = saved_errno;
}

/* The last look: a thread that came late a moment ago may be taking a request, or a client, behind the looks so far. */
bool drain_close(bool anyway)
{
	int saved_errno = errno;
	bool closed;

	atomic_store(&drain_over_here, true);
	barrier();
	closed = (!drain_busy() && !drain_call_out()) || anyway;
	if (!closed)
		atomic_store(&drain_over_here, false);
	errno = saved_errno;
	return closed;
}

/*
 * The kernel counts what this thread has received as received, and no note has it yet: on a busy machine for many
 * milliseconds. The first code instead checked the channel twice, 1 ms apart, and in one of some 400 restarts a client
 * of node's cluster got a reset. A thread that sleeps in recvmsg() has received nothing: at this check nothing is on
 * its way any more (drain/scm_send.h).
 */
bool drain_receives(int tid, int fd)
{
	struct procinfo thread;

	return fd == ACTIVE_CALLS_NOTES ||
	       (fd == ACTIVE_CALLS_RECEIVES && procinfo_look(tid, &thread) && !thread.sleeps && !thread.dead);
}

size_t drain_call_out(void)
{
	int pid = getpid();
	size_t inside = 0;

	for (int i = 0; i < active_calls_top(); i++) {
		int tid = atomic_load(&active_calls_at(i)->tid), fd = atomic_load(&active_calls_at(i)->fd);
		struct conn *c = conn_at(fd);

		if (tid && drain_receives(tid, fd))
			inside++;
		if (!tid || fd < 0)
			continue;
		if (c && c->flags & CONN_EXEMPT)
			continue;
		if (c && !conn_may_stop(c, fd, io_now()) && !(drain_blocks(fd) && conn_settle_unseen(c, fd)))
			continue; /* reads the rest of a request: counted as busy already */
		if (!doorbell_call_out(pid, tid)) {
			atomic_store(&active_calls_at(i)->tid, 0);
			continue;
		}
		inside++;
	}
	return inside;
}

static size_t endless;

size_t drain_endless(void)
{
	return endless;
}

size_t drain_busy(void)
{
	int64_t now = io_now();
	size_t busy = 0;

	endless = 0;
	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);
		enum conn_view view;

		if (!c || c->flags & (CONN_FROZEN | CONN_EXEMPT))
			continue;
		view = conn_look(c, fd, now);
		switch (view) {
		case CONN_GONE:
			conn_end(fd);
			break;
		case CONN_AT_BOUNDARY:
		case CONN_QUIET:
			if (freeze_conn(fd, c, view, NULL))
				break;
			busy++;
			endless += conn_is_endless(c);
			break;
		case CONN_IN_PROGRESS:
			busy++;
			endless += conn_is_endless(c);
		}
	}
	return busy;
}

bool drain_serves(void)
{
	return freeze_knows_listeners() || conn_next(0) >= 0;
}

void drain_wake(void)
{
	int saved_errno = errno;

	atomic_fetch_add(&parked_word, 1);
	next_sys(SYS_futex, &parked_word, FUTEX_WAKE_PRIVATE, INT32_MAX);
	errno = saved_errno;
}

void drain_thaw(void)
{
	int saved_errno = errno;

	atomic_store(&drain_over_here, false);
	atomic_store(&drain_active, false);
	atomic_store(&active_calls_come_out, false);
	freeze_listeners(false);
	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);

		if (c)
			freeze_undo(c);
	}
	drain_wake();
	errno = saved_errno;
}

