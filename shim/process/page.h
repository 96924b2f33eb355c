/* SPDX-License-Identifier: MIT */
/* The page: memory that the owner shares with all processes that it forks. Its next image finds it by a memfd. */
#ifndef CPR_PROCESS_PAGE_H
#define CPR_PROCESS_PAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	/* changes with struct page: an image that exec'ed itself may be of another version than its workers */
	PAGE_FORM = 6,
	PAGE_WORKERS = 4096,
	PAGE_LEAVING = 128, /* only for the moment until its flags show that a process has exec'ed */
};

struct page_forks {
	_Atomic int unborn;      /* under way */
	_Atomic unsigned births; /* so far */
};

/*
 * A drain of all processes: where they pass their connections (0: there is none), and its deadline (CLOCK_MONOTONIC,
 * ns).
 */
struct page_drain {
	/* before it: a worker without slow requests reports with this number; 0: nothing is asked */
	_Atomic uint64_t survey;
	_Atomic uint64_t nonce;
	_Atomic int64_t deadline;
	_Atomic uint64_t gate; /* handover: the command for all processes (restart/mode_handover.h); 0: none */
	_Atomic uint64_t line; /* … and where the supervisor listens for it */
};

/* A canary's turn (process/share.h). */
struct page_share {
	_Atomic uint32_t wanted, accepted;
	_Atomic int64_t reached_at; /* the wanted number was reached (CLOCK_MONOTONIC, ns); 0: not yet */
	_Atomic uint64_t nonce;     /* the supervisor listens there */
};

struct page_worker {
	_Atomic int pid; /* 0: free */
	_Atomic int parent;
	uint64_t entered; /* clock ticks since boot */
	_Atomic uint64_t gated; /* the last command of a handover that it has carried out: page_drain.gate */
	/* the last survey of slow requests at which it had none: page_drain.survey */
	_Atomic uint64_t calm;
};

/* One page-aligned block for the owner and all that it forks. */
struct page {
	uint32_t form;
	_Atomic int owner;
	struct page_forks forks; /* of all but the owner */
	_Atomic int top;         /* every worker's place is below this */
	uint64_t since;          /* clock ticks since boot: processes that started before are not ours */
	_Atomic int claimers, claims; /* workers that have claimed something, and the number of their claims */
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
 * Maps the page, zeroed. Called once, after birth_init. The name tells the tools about this process: see
 * model/protocol.h; `filters` is the number of seccomp filters. Returns 0, or -errno: then this process goes on without
 * cpr.
 */
int page_init(int filters);

/*
 * Returns the descriptor of the page, and its inode in *ino; -1 if it is not open any more. After an exec of its own
 * the program's next image uses the same page, and so knows its workers.
 */
int page_fd_of(uint64_t *ino);
bool page_inherit(int fd, uint64_t ino);

/*
 * Tells the workers of the generation that a restart has ended. They read in its page that it is gone, and that
 * connections which they passed on are not theirs any more. Closes fd.
 */
void page_let_go(int fd, uint64_t ino);
#define PAGE_GONE UINT64_MAX /* page_drain.nonce, then */

struct page_drain *page_shared_drain(void);

/* Returns the place of a process among the workers; -1: none. */
int page_place_of(int pid);

/*
 * Returns the place of a process from `now` on (clock ticks since boot): its own, or that of a dead one. -1: none is
 * left.
 */
int page_enter(int pid, int parent, uint64_t now);

#endif
