/* SPDX-License-Identifier: MIT */
/* Other processes as /proc shows them: whose child one is, and what sockets it holds. Any signal handler may call these; all keep errno. */
#ifndef CPR_PROCESS_PROCINFO_H
#define CPR_PROCESS_PROCINFO_H

#include <stdbool.h>
#include <stdint.h>

struct procinfo {
	int parent;
	unsigned flags;      /* the kernel's */
	bool dead;           /* and not waited for yet */
	uint64_t start_time; /* as roster_start_time, which knows none of the dead */
	char name[64];       /* the kernel's: 15 bytes */
};

/* False: there is no such process, or no /proc. */
bool procinfo_look(int pid, struct procinfo *proc);

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

#endif
