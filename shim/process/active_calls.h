/* SPDX-License-Identifier: MIT */
/* Threads inside calls that take bytes or connections. */
#ifndef CPR_PROCESS_ACTIVE_CALLS_H
#define CPR_PROCESS_ACTIVE_CALLS_H

#include "base/attr.h"

#include <stdatomic.h>
#include <stdbool.h>

/* Not in a call that takes anything; in recvmsg(), which may bring a connection; about to note what it has brought. */
enum { ACTIVE_CALLS_NONE = -1, ACTIVE_CALLS_RECEIVES = -2, ACTIVE_CALLS_NOTES = -3 };

struct active_call {
	_Atomic int tid; /* 0: free */
	_Atomic int fd;  /* what the thread is reading or accepting on; or one of the above */
};

/* This thread's place; NULL: it has none yet, or there is no room. */
extern cpr_thread struct active_call *active_calls_self;
/* in a child it is not what stands in *active_calls_self: that is to become its own */
extern cpr_thread int active_calls_self_tid;

/*
 * Is a drain on? Then threads come out of such calls when they are rung (process/doorbell.c), and ask again whether
 * they may make them.
 */
extern _Atomic bool active_calls_come_out;

static inline bool active_calls_this_comes_out(void)
{
	return atomic_load(&active_calls_come_out) && active_calls_self && atomic_load(&active_calls_self->fd) >= 0;
}

/* Once, at the start. */
void active_calls_init(void);

/* A place for this thread; NULL: there is no room. For any handler; keeps errno. */
struct active_call *active_calls_join(void);

/* All places that were ever taken are below this. */
int active_calls_top(void);
struct active_call *active_calls_at(int i);

#endif
