/* SPDX-License-Identifier: MIT */
/* What a process was at its start, taken raw and quickly: process/startup.h makes sense of it, once that is needed. */
#ifndef CPR_PROCESS_SNAPSHOT_H
#define CPR_PROCESS_SNAPSHOT_H

#include "model/state.h"

#include <linux/capability.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/types.h>

/* What exec cannot bring back, and the kernel says without /proc. */
struct rights {
	uid_t uid[3];
	gid_t gid[3];
	struct __user_cap_data_struct caps[2];
	uint64_t root_dev, root_ino;
};

struct snapshot {
	bool taken;
	bool listens;                /* one of the descriptors is a listening socket */
	int pid;
	char *const *argv, *const *envp; /* copies, as the strings are: programs write over both */
	const char *directory;       /* absolute; NULL: not known */
	struct rights rights;
	uint64_t mask, ignored;      /* the kernel's form */
	uint64_t signals_known;      /* of which `ignored` says already what they were at the start */
	struct rlimit limits[RLIM_NLIMITS];
	unsigned limits_known;
	int filters;                 /* seccomp's; noted when a light start ends, which a program's first filter does */
	mode_t umask;
	int nice, parent_death_signal;
	cpu_set_t processors;
	bool processors_known;
	struct heirloom *fds;        /* what was open */
	size_t fd_count, fd_room;
	uint64_t stderr_socket;      /* its inode, if standard error is a socket */
};

extern struct snapshot cpr__snapshot;

/*
 * Once, in the constructor. Every program that a server starts pays for it: 29 system calls, and one page for the
 * copies. What can be asked for later, because no program changes it before the library has looked, is not in it.
 * -ENOMEM: nothing was taken.
 */
int snapshot_take(int argc, char *const argv[], char *const envp[]);

/*
 * The program asks for another handler of this signal: whether it was ignored at the start is to be seen before that
 * only. For any handler.
 */
void snapshot_note_signal(int sig);

/* When a light start ends: what is left to ask. */
void snapshot_complete(void);

/*
 * Of all descriptors: what was open above the first numbers. Not in a next generation, which is told: there may be a
 * hundred thousand, and the walk costs more for each than all else that an exec takes.
 */
void snapshot_complete_fds(void);

#endif
