/* SPDX-License-Identifier: MIT */
/*
 * Other processes as /proc shows them: the parent of each, and the sockets that it holds. Any signal handler may call
 * these; all keep errno.
 */
#ifndef CPR_PROCESS_PROCINFO_H
#define CPR_PROCESS_PROCINFO_H

#include <stdbool.h>
#include <stdint.h>

struct procinfo {
	int parent;
	unsigned flags;      /* the kernel's */
	bool dead;           /* and not waited for yet */
	bool stopped;        /* by a signal, or a tracer */
	bool sleeps;         /* in a call that a signal ends, and nothing has woken it */
	uint64_t start_time; /* as procinfo_start_time, which knows none of the dead */
	char name[64];       /* the kernel's: 15 bytes */
};

/* False: there is no such process, or no /proc, or it is hidden there. */
bool procinfo_look(int pid, struct procinfo *proc);

/* Has it ended, even if it is not waited for yet? False where that is not to be seen. */
bool procinfo_is_gone(int pid);

/*
 * When a process started, in clock ticks since boot; 0 if it is gone or a zombie. /proc may hide other users' processes
 * (hidepid): no answer there means "not known", not "dead", and a process that is there started at PROCINFO_HIDDEN.
 */
uint64_t procinfo_start_time(int pid);
#define PROCINFO_HIDDEN UINT64_C(1)

/*
 * What a process has used of the processors, ns. (/proc/PID/stat tells it in steps of 10 ms: a few microseconds may
 * look like as many.)
 */
int64_t procinfo_cpu_time(int pid);

/* Calls `each` with every child of a process, the dead ones too. */
void procinfo_children(int pid, void (*each)(int child, void *arg), void *arg);

/* The same, with those that one of its threads has made. False: the kernel does not list them so. */
bool procinfo_thread_children(int pid, int thread, void (*each)(int child, void *arg), void *arg);

/* Calls `each` with the inode of every socket that a process holds, until it says true. True: it did. */
bool procinfo_sockets(int pid, bool (*each)(uint64_t ino, void *arg), void *arg);

/* Is there a mapping with this in its line? False also where this process may not look. */
bool procinfo_maps(int pid, const char *what);

/* Does a process descend from another? */
bool procinfo_descends(int pid, int from);

/* Has this process, that /proc says has these flags, not exec'ed since it was forked? */
bool procinfo_is_forked(unsigned flags);

/*
 * Does this process handle this signal? Not a child of posix_spawn, nor what is another program by now; nor one that is
 * not under cpr. One thread at a time.
 */
bool procinfo_catches(int pid, int sig);

enum procinfo_known { PROCINFO_NEW, PROCINFO_KNOWN, PROCINFO_STRANGE };

/*
 * Calls `found` with each descendant of `root` that was forked, started at or after `since` (as procinfo_start_time),
 * has not exec'ed, catches `sig`, and of which `is` says that it is new. Strange ones are passed over, and so are their
 * children. False: there may be more (which cannot be told from a child of vfork at the moment), so it is to be asked
 * again.
 *
 * A child of vfork or posix_spawn must not be found: it is about to exec, and what is sent to it would end the program
 * that it becomes. It has its parent wait in the kernel.
 */
bool procinfo_find_forked(int root, uint64_t since, int sig, enum procinfo_known (*is)(int pid, uint64_t start_time),
			  void (*found)(int pid, int parent));

#endif
