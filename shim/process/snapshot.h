/* SPDX-License-Identifier: MIT */
/* A snapshot of what a process was at its start, taken fast. process/startup.h interprets it when that is needed. */
#ifndef CPR_PROCESS_SNAPSHOT_H
#define CPR_PROCESS_SNAPSHOT_H

#include "model/state.h"

#include <linux/capability.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/types.h>

/* What exec cannot bring back, as the kernel tells it without /proc. */
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
	char *const *argv, *const *envp; /* copies, with copied strings: programs write over both */
	const char *directory;       /* absolute; NULL: not known */
	struct rights rights;
	uint64_t mask, ignored;      /* the kernel's form */
	uint64_t signals_known;      /* signals for which `ignored` already has the state at the start */
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
 * Takes the snapshot. Called once, in the constructor. Every program that a server starts pays for it: 29 system calls,
 * and one page for the copies. It leaves out what no program changes before the library looks. Returns 0; -ENOMEM:
 * nothing was taken.
 */
int snapshot_take(int argc, char *const argv[], char *const envp[]);

/*
 * Call it before the program changes the handler of this signal: afterwards it cannot be seen whether the signal was
 * ignored at the start. A signal handler may call it.
 */
void snapshot_note_signal(int sig);

/* Completes the snapshot when a light start ends. */
void snapshot_complete(void);

/*
 * Adds the open descriptors above the first numbers. Not in a next generation, whose state lists them: there may be a
 * hundred thousand, and the walk costs more for each than all else in an exec.
 */
void snapshot_complete_fds(void);

#endif
