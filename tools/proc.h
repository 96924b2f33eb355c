/* SPDX-License-Identifier: MIT */
/* A process as /proc shows it: whether it is under cpr, and whether its doorbell may be rung. */
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
	int filters;      /* seccomp filters in force, by the kernel's count; 0: none */
};

/*
 * The memfd of a process under cpr: /memfd:cpr.SIGNO, or /memfd:cpr.SIGNO.FILTERS; of a supervisor:
 * /memfd:cpr-supervisor.SIGNO.
 */
struct proc_page {
	bool supervisor;
	int signo;
	uint64_t ino; /* of the memfd: processes that were forked share their parent's */
	int filters; /* seccomp filters in force when the program started; -1: not known */
};

/* Returns 0; -ESRCH: no such process; -errno. */
int proc_read(pid_t pid, struct proc *proc);

/* Returns 0; -ENXIO: not under cpr; -ESRCH: no such process; -EACCES: another user's; -errno. */
int proc_page(pid_t pid, struct proc_page *page);

/* Writes its supplementary groups, `most` at most. Returns how many, or -errno. */
int proc_groups(pid_t pid, gid_t *groups, int most);

/* Return its parent, or 0; its start time in ticks since boot (unique with its pid), or 0. */
pid_t proc_parent(pid_t pid);
uint64_t proc_start_ticks(pid_t pid);

/* Is it stopped, by a signal or by a debugger? It answers nothing then. */
bool proc_is_stopped(pid_t pid);

/* Do all its threads sleep? Also true when it has ended, or is hidden. */
bool proc_rests(pid_t pid);

/* Is it that process, or a descendant of it? */
bool proc_descends(pid_t pid, pid_t ancestor);

/*
 * Writes its children, `most` at most. Returns how many; 0 also if the kernel does not list them
 * (CONFIG_PROC_CHILDREN).
 */
size_t proc_children(pid_t pid, pid_t *pids, size_t most);

/* Sets *started to its start by the wall clock. Returns 0, -ESRCH or -errno. */
int proc_started(pid_t pid, time_t *started);

/* Returns all pids, ascending. The caller frees the array. Exits without memory or /proc. */
pid_t *proc_pids(size_t *count);

/* Adds "root", or the number of a uid without a name. */
void proc_user(uid_t uid, struct text *t);

/* Adds its command line, with blanks between the words; without one, its short name in brackets. */
void proc_command(pid_t pid, struct text *t);

bool proc_has_signal(uint64_t set, int signo);

#endif
