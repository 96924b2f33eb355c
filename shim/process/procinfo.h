/* SPDX-License-Identifier: MIT */
/*
 * Other processes as /proc shows them: parents, sockets, mappings. A signal handler may call all of these. They keep
 * errno.
 */
#ifndef CPR_PROCESS_PROCINFO_H
#define CPR_PROCESS_PROCINFO_H

#include <stdbool.h>
#include <stdint.h>

struct procinfo {
	int parent;
	unsigned flags;      /* the kernel's */
	bool dead;           /* a zombie */
	bool stopped;        /* by a signal, or a tracer */
	bool sleeps;         /* in a call that a signal interrupts, and not woken since */
	uint64_t start_time; /* as procinfo_start_time, which has none for the dead */
	char name[64];       /* the kernel's: 15 bytes */
};

/* Returns false if there is no such process, no /proc, or /proc hides the process. */
bool procinfo_look(int pid, struct procinfo *proc);

/* Has it ended, even as a zombie? False if that cannot be seen. */
bool procinfo_is_gone(int pid);

/*
 * Returns the start time of a process, in clock ticks since boot; 0 if it is gone or a zombie. /proc may hide other
 * users' processes (hidepid). So no answer there means "not known", and not "dead": such a process has the start time
 * PROCINFO_HIDDEN.
 */
uint64_t procinfo_start_time(int pid);
#define PROCINFO_HIDDEN UINT64_C(1)

/*
 * Returns the processor time of a process in ns. (/proc/PID/stat has steps of 10 ms: a few microseconds may look like
 * 10 ms.)
 */
int64_t procinfo_cpu_time(int pid);

/* Calls each(child, arg) for every child of a process, also for zombies. */
void procinfo_children(int pid, void (*each)(int child, void *arg), void *arg);

/* The same for the children of one of its threads. Returns false if the kernel does not list these. */
bool procinfo_thread_children(int pid, int thread, void (*each)(int child, void *arg), void *arg);

/* Calls each(ino, arg) for every socket of a process, until it returns true. Returns whether it did. */
bool procinfo_sockets(int pid, bool (*each)(uint64_t ino, void *arg), void *arg);

/* Has the process a mapping with `what` in its line? False also if this process may not look. */
bool procinfo_maps(int pid, const char *what);

/* Does a process descend from another? */
bool procinfo_descends(int pid, int from);

/* Has a process with these flags (from /proc) not exec'ed since it was forked? */
bool procinfo_is_forked(unsigned flags);

/*
 * Does this process handle this signal? False for a child of posix_spawn, after an exec, and without cpr. One thread at
 * a time.
 */
bool procinfo_catches(int pid, int sig);

enum procinfo_known { PROCINFO_NEW, PROCINFO_KNOWN, PROCINFO_STRANGE };

/*
 * Calls `found` for each new descendant of `root`: one that was forked, started at or after `since` (as
 * procinfo_start_time), has not exec'ed, and catches `sig`. `is` tells which are new. Strange processes are skipped,
 * with their children. Returns false if there may be more, since one cannot be told from a vfork child at the moment:
 * then call it again.
 *
 * A child of vfork or posix_spawn must not be found. It is about to exec, and a signal would end the program that it
 * becomes. Its parent waits in the kernel, which shows it.
 */
bool procinfo_find_forked(int root, uint64_t since, int sig, enum procinfo_known (*is)(int pid, uint64_t start_time),
			  void (*found)(int pid, int parent));

#endif
