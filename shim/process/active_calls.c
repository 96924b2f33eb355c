/* SPDX-License-Identifier: MIT */
/* Threads inside calls that take bytes or connections. Each has a place, which holds the descriptor of its call. */
#define _GNU_SOURCE
#include "process/active_calls.h"

#include "process/birth.h"
#include "base/full.h"
#include "base/next.h"
#include "process/sandbox.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	CALLERS = 4096, /* what is beyond is served, but may be cut */
	PROBES = 4,     /* places that a thread looks at before it takes a new one */
};

/* A child finds it empty: its one thread has another tid than its parent's had. */
static cpr_touched struct own {
	_Atomic int top; /* no caller is at or above this */
	struct active_call callers[CALLERS];
} *own;

cpr_thread struct active_call *active_calls_self;
cpr_thread int active_calls_self_tid;
cpr_touched _Atomic bool active_calls_come_out;
static cpr_thread int homeless; /* the tid for which there was no room */

/* A child of a bare clone(2) has its parent's in libc's memory, and must ask. */
static bool libc_knows;

/* The kernel is asked only where libc does not say so: a seccomp filter may not know gettid(2). */
static int tid_of_self(void)
{
	int tid = libc_knows ? birth_libc_tid() : 0;

	return tid ? tid : (int)next_sys(SYS_gettid);
}

static void check_tid(void)
{
	libc_knows = birth_libc_tid() == (int)next_sys(SYS_gettid);
}

void active_calls_init(void)
{
	own = birth_cleared(sizeof(*own));
	check_tid();
	birth_when_born(check_tid);
}

int active_calls_top(void)
{
	return own ? own->top : 0;
}

struct active_call *active_calls_at(int i)
{
	return &own->callers[i];
}

static bool is_dead(int tid)
{
	return next_sys(SYS_tgkill, getpid(), tid, 0) && errno == ESRCH;
}

static struct active_call *active_calls_take_place(int i, int there, int tid)
{
	struct active_call *slot = &own->callers[i];
	int top;

	if (!atomic_compare_exchange_strong(&slot->tid, &there, tid))
		return NULL;
	atomic_store(&slot->fd, -1);
	active_calls_self = slot;
	active_calls_self_tid = tid;
	for (top = own->top; top <= i && !atomic_compare_exchange_weak(&own->top, &top, i + 1);)
		;
	return slot;
}

/*
 * The place of a dead thread, or a new one at the end. The obvious code asks of every place whether its thread
 * still lives. In a server with a thread for each connection, the thousandth costs a thousand system calls. So each
 * search asks a few places, and the next one goes on from there.
 */
struct active_call *active_calls_join(void)
{
	static _Atomic unsigned asked;
	int tid, saved_errno = errno;
	struct active_call *found = NULL;

	active_calls_self = NULL;
	if (!own) /* before the kernel is asked: a program that started light pays nothing for a recvmsg() */
		return NULL;
	tid = tid_of_self();
	if (homeless == tid)
		return NULL;
	for (int tries = 0, top = own->top; top && tries < PROBES && !found && !sandboxed(); tries++) {
		int i = (int)(atomic_fetch_add(&asked, 1) % (unsigned)top), there = own->callers[i].tid;

		if (!there || there == tid || is_dead(there))
			found = active_calls_take_place(i, there, tid);
	}
	for (int i = own->top; i < CALLERS && !found; i++)
		found = active_calls_take_place(i, 0, tid);
	if (!found) {
		homeless = tid;
		full_note(FULL_THREADS, CALLERS);
	}
	errno = saved_errno;
	return found;
}
