/* SPDX-License-Identifier: MIT */
/* Threads inside calls that take bytes or connections. */
#ifndef CPR_PROCESS_ACTIVE_CALLS_H
#define CPR_PROCESS_ACTIVE_CALLS_H

#include "base/attr.h"

#include <stdatomic.h>
#include <stdbool.h>

/* The thread is in no such call; in recvmsg(), which may bring a connection; about to note what that has brought. */
enum { ACTIVE_CALLS_NONE = -1, ACTIVE_CALLS_RECEIVES = -2, ACTIVE_CALLS_NOTES = -3 };

struct active_call {
	_Atomic int tid; /* 0: free */
	_Atomic int fd;  /* what the thread is reading or accepting on; or one of the above */
};

/* This thread's place; NULL: none yet, or there is no room. */
extern cpr_thread struct active_call *active_calls_self;
/*
 * tid of the thread that took the place. If active_calls_self->tid differs, this is a child, which needs its own place
 */
extern cpr_thread int active_calls_self_tid;

/*
 * Is a drain on? Then a ring makes threads leave such calls (process/doorbell.h), and their wrappers ask again whether
 * they may make them.
 */
extern _Atomic bool active_calls_come_out;

static inline bool active_calls_this_comes_out(void)
{
	return atomic_load(&active_calls_come_out) && active_calls_self && atomic_load(&active_calls_self->fd) >= 0;
}

/* Called once, at the start. */
void active_calls_init(void);

/* Takes a place for this thread. Returns NULL if there is no room. A signal handler may call it. Keeps errno. */
struct active_call *active_calls_join(void);

/* Every place that was ever taken is below this. */
int active_calls_top(void);
struct active_call *active_calls_at(int i);

#endif
