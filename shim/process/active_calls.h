/* SPDX-License-Identifier: MIT */
/* Threads inside calls that take bytes or connections. */
#ifndef CPR_CALLERS_H
#define CPR_CALLERS_H

#include "base/attr.h"

#include <stdatomic.h>

struct caller {
	_Atomic int tid; /* 0: free */
	_Atomic int fd;  /* what the thread is reading or accepting on; -1: nothing */
};

/* This thread's place; NULL: it has none yet, or there is no room. */
extern cpr_thread struct caller *callers_self;
extern cpr_thread int callers_self_tid; /* in a child it is not what stands in *callers_self: that is to become its own */

/* Once, at the start. */
void callers_init(void);

/* A place for this thread; NULL: there is no room. For any handler; keeps errno. */
struct caller *callers_join(void);

/* All places that were ever taken are below this. */
int callers_top(void);
struct caller *callers_at(int i);

#endif
