/* SPDX-License-Identifier: MIT */
/* What the three files of process/guard.h share: the page of all processes, and what a child must not have of its parent's. */
#ifndef CPR_PROCESS_LOCK_INSIDE_H
#define CPR_PROCESS_LOCK_INSIDE_H

#include "process/guard.h"

/* Changes with struct shared: an image that exec'ed itself may be of another version than its workers. */
enum { FORM = 4 };

struct forks {
	_Atomic int unborn;      /* under way */
	_Atomic unsigned births; /* so far */
};

/* What becomes of a moment's exec is seen by its flags; this is for that moment. */
enum { LEAVING = 128 };

/* One page-aligned block for the owner and all that it forks. */
struct shared {
	uint32_t form;
	_Atomic int owner;
	struct forks forks; /* of all but the owner */
	_Atomic int top;         /* no worker stands at or above this */
	uint64_t since;          /* clock ticks since boot: who was there before is none of ours */
	_Atomic int claimers, claims; /* workers that have claimed something, and how much that was */
	struct page_drain drain;
	struct {
		_Atomic int pid;
		_Atomic uint64_t at; /* clock ticks since boot */
	} leaving[LEAVING]; /* who execs, by its pid: the last ones */
	struct {
		_Atomic int pid; /* 0: free */
		_Atomic int parent;
		uint64_t entered; /* clock ticks since boot */
		_Atomic uint64_t calm; /* the last time that it was asked for its slow requests and had none: page_drain.survey */
	} worker[ROSTER_MAX];
};

/*
 * The kernel clears this in every child that has a copy of our memory, however it was born (fork, _Fork, clone), and leaves it alone in one
 * that shares our memory (vfork, posix_spawn). So one getpid() tells all three apart without standing in front of any of them: vfork cannot
 * be wrapped in C at all, and system() and popen() spawn inside libc where nobody stands. (What else a child must not have of its parent's lies here, too: birth_cleared.)
 */
struct wiped {
	int pid;
	int slot; /* of the worker, -1: none */
	int parent;
	int claimer; /* its number among those who claim, from 1 on; 0: none yet */
	int readable; /* after_birth() was here, and the table is whole */
	bool owns;    /* it is the owner, and so counts its forks here, not in the shared page: each page that a process touches after a fork costs it a little */
	struct forks forks;
};

extern struct shared *page_shared;
extern struct wiped *birth_self;
extern int birth_born_as;

/* Clock ticks since boot, as start times are told. */
uint64_t roster_ticks_now(void);

/* The place of a process: its own if it has one (or one of its pid, who is dead). -1: there is none left. */
int roster_enter_worker(int pid, int parent);

/* Before a fork: the page's memfd, which an image that this program execs itself will need. */
void page_keep(void);

/* page_init's: what is wiped in a child, and the handlers of fork(). 0, or -errno. */
int birth_init(void);

#endif
