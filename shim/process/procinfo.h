/* SPDX-License-Identifier: MIT */
/* Other processes as /proc shows them: whose child one is, and what sockets it holds. Any signal handler may call these; all keep errno. */
#ifndef CPR_KIN_H
#define CPR_KIN_H

#include <stdbool.h>
#include <stdint.h>

struct kin {
	int parent;
	unsigned flags;      /* the kernel's */
	bool dead;           /* and not waited for yet */
	uint64_t start_time; /* as guard_start_time, which knows none of the dead */
	char name[64];       /* the kernel's: 15 bytes */
};

/* False: there is no such process, or no /proc. */
bool kin_look(int pid, struct kin *kin);

/* Calls `each` with every child of a process, the dead ones too. */
void kin_children(int pid, void (*each)(int child, void *arg), void *arg);

/* The same, with those that one of its threads has made. False: the kernel does not list them so. */
bool kin_thread_children(int pid, int thread, void (*each)(int child, void *arg), void *arg);

/* Calls `each` with the inode of every socket that a process holds, until it says true. True: it did. */
bool kin_sockets(int pid, bool (*each)(uint64_t ino, void *arg), void *arg);

/* Is there a mapping with this in its line? False also where this process may not look. */
bool kin_maps(int pid, const char *what);

/* Does a process descend from another? */
bool kin_descends(int pid, int from);

#endif
