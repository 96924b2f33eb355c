/* SPDX-License-Identifier: MIT */
/*
 * The page: memory that the owner shares with all processes that it forks, and the memfd by which its next image finds
 * it.
 */
#ifndef CPR_PROCESS_PAGE_H
#define CPR_PROCESS_PAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	/* changes with struct page: an image that exec'ed itself may be of another version than its workers */
	PAGE_FORM = 6,
	PAGE_WORKERS = 4096,
	PAGE_LEAVING = 128, /* what becomes of a moment's exec is seen by its flags; these are for that moment */
};

struct page_forks {
	_Atomic int unborn;      /* under way */
	_Atomic unsigned births; /* so far */
};

/*
 * A drain of all processes: where they pass their connections to (0: there is none), and until when (CLOCK_MONOTONIC,
 * ns).
 */
struct page_drain {
	/* before it: a worker without slow requests says so with this number; 0: it is not asked */
	_Atomic uint64_t survey;
	_Atomic uint64_t nonce;
	_Atomic int64_t deadline;
	_Atomic uint64_t gate; /* handover: what the owner wants of all (restart/mode_handover.h); 0: nothing */
	_Atomic uint64_t line; /* … and where the supervisor listens for it */
};

/* A canary's turn (process/share.h). */
struct page_share {
	_Atomic uint32_t wanted, accepted;
	_Atomic int64_t reached_at; /* all that were wanted were there (CLOCK_MONOTONIC, ns); 0: not yet */
	_Atomic uint64_t nonce;     /* the supervisor listens there */
};

struct page_worker {
	_Atomic int pid; /* 0: free */
	_Atomic int parent;
	uint64_t entered; /* clock ticks since boot */
	_Atomic uint64_t gated; /* the last wish of a handover that it has fulfilled: page_drain.gate */
	/* the last time that it was asked for its slow requests and had none: page_drain.survey */
	_Atomic uint64_t calm;
};

/* One page-aligned block for the owner and all that it forks. */
struct page {
	uint32_t form;
	_Atomic int owner;
	struct page_forks forks; /* of all but the owner */
	_Atomic int top;         /* no worker stands at or above this */
	uint64_t since;          /* clock ticks since boot: what was there before is none of ours */
	_Atomic int claimers, claims; /* workers that have claimed something, and how much that was */
	struct page_drain drain;
	struct page_share share;
	struct {
		_Atomic int pid;
		_Atomic uint64_t at; /* clock ticks since boot */
	} leaving[PAGE_LEAVING]; /* processes that exec, by pid: the last ones */
	struct page_worker worker[PAGE_WORKERS];
};

/* NULL before page_init. */
extern struct page *page_shared;

/*
 * Once, with births there: maps the page, zeroed (named for the tools: model/protocol.h; `filters` are seccomp's). 0,
 * or -errno: then this process goes on without cpr.
 */
int page_init(int filters);

/*
 * The descriptor of the page, and its inode; -1 if it is not open any more. An image that the program has exec'ed
 * itself goes on with it, and so knows its workers.
 */
int page_fd_of(uint64_t *ino);
bool page_inherit(int fd, uint64_t ino);

/*
 * The page of the generation that a restart has ended: its workers read there that it is gone, and that what they
 * passed on is not theirs any more.
 */
void page_let_go(int fd, uint64_t ino);
#define PAGE_GONE UINT64_MAX /* page_drain.nonce, then */

struct page_drain *page_shared_drain(void);

/* The place where a process stands among the workers; -1: nowhere. */
int page_place_of(int pid);

/*
 * The place of a process from now on (clock ticks since boot): its own if it has one, or that of a dead one. -1: there
 * is none left.
 */
int page_enter(int pid, int parent, uint64_t now);

#endif
