/* SPDX-License-Identifier: MIT */
/* What /proc says of a process: whether it is under cpr, and whether its doorbell may be rung. */
#ifndef CPR_PROC_H
#define CPR_PROC_H

#include "base/text.h"

#include <sys/types.h>
#include <time.h>

enum { PROC_GROUPS_MAX = 65536 }; /* the kernel's own limit */

struct proc {
	pid_t tgid; /* not the pid: it is a thread of this process */
	char state; /* R S D T Z … */
	uid_t uid;  /* effective, as gid */
	gid_t gid;
	uint64_t caught;  /* signals, bit 0 is signal 1 */
	uint64_t blocked; /* by its first thread */
	int filters;      /* seccomp filters in force, as many as the kernel says; 0: none */
};

/*
 * The memfd that makes a process known: /memfd:cpr.SIGNO, or /memfd:cpr.SIGNO.FILTERS, and of a supervisor
 * /memfd:cpr-supervisor.SIGNO.
 */
struct proc_page {
	bool supervisor;
	int signo;
	uint64_t ino; /* of the memfd: processes that were forked share their parent's */
	int filters; /* seccomp filters that were in force when the program started; -1: it does not say */
};

/* 0; -ESRCH: no such process; -errno. */
int proc_read(pid_t pid, struct proc *proc);

/* 0; -ENXIO: not under cpr; -ESRCH: no such process; -EACCES: another user's; -errno. */
int proc_page(pid_t pid, struct proc_page *page);

/* Its supplementary groups, at most `most`. How many, or -errno. */
int proc_groups(pid_t pid, gid_t *groups, int most);

/* Its parent, or 0; when it started, in ticks since boot (with its pid, unique), or 0. */
pid_t proc_parent(pid_t pid);
uint64_t proc_start_ticks(pid_t pid);

/* Do all its threads sleep? Also true when it has ended, or is hidden. */
bool proc_rests(pid_t pid);

/* Is it that process, or a descendant of it? */
bool proc_descends(pid_t pid, pid_t ancestor);

/* Its children, at most `most`. How many; 0 also where the kernel does not tell (CONFIG_PROC_CHILDREN). */
size_t proc_children(pid_t pid, pid_t *pids, size_t most);

/* When it started, by the wall clock. 0, -ESRCH, -errno. */
int proc_started(pid_t pid, time_t *started);

/*
 * All pids that there are, ascending. The array is the caller's to free; without memory, or /proc, this ends the
 * program.
 */
pid_t *proc_pids(size_t *count);

/* "root", or the number of a uid without a name. */
void proc_user(uid_t uid, struct text *t);

/* Its command line, with blanks between the words; its short name in brackets when that is gone. */
void proc_command(pid_t pid, struct text *t);

bool proc_has_signal(uint64_t set, int signo);

#endif
