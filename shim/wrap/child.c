/* SPDX-License-Identifier: MIT */
/* Where a program waits for its children: those of the last generation, which it never made, are not among them. */
#define _GNU_SOURCE
#include "restart/arrive.h"
#include "process/children.h"
#include "base/next.h"
#include "wrap/wrap.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/wait.h>

/*
 * Only a wait for any child, or for any of a group, can meet a child of the last generation. A wait for one pid gets
 * the kernel's answer. Without children the kernel returns ECHILD. We do, too, when the program has none of its own: it
 * would wait for the end of a child that it does not know.
 */
static __attribute__((noinline)) pid_t wait_for_own(pid_t pid, int *status, int options, struct rusage *usage)
{
	int room, *said = status ? status : &room; /* the kernel writes it: where it cannot, it says EFAULT */
	pid_t got;

	do {
		children_reap();
		if (pid == -1 && children_are_strangers()) {
			errno = ECHILD;
			return -1;
		}
		got = next_wait4(pid, said, options, usage);
	} while (got > 0 && children_swallow(got, WIFEXITED(*said) || WIFSIGNALED(*said)));
	return got;
}

/*
 * A master that waits for its workers has finished its start; a script that waits for a command before it starts the
 * server has not. With WNOHANG it waits for nothing: a SIGCHLD handler does that at any time, and a generation counted
 * as ready before it accepted.
 */
static inline bool may_meet(pid_t pid, int options)
{
	if (unlikely(generation_is_settling) && pid <= 0 && !(options & WNOHANG))
		arrive_waiting(AWAITED_ITSELF);
	return unlikely(atomic_load_explicit(&children_left, memory_order_relaxed) > 0) && pid <= 0;
}

/* What the call of a wait for any child has returned. */
static inline pid_t met(pid_t got)
{
	if (unlikely(generation_is_settling))
		arrive_waited();
	return got;
}

CPR_EXPORT pid_t wait(int *status)
{
	return met(may_meet(-1, 0) ? wait_for_own(-1, status, 0, NULL) : next_wait(status));
}

CPR_EXPORT pid_t __wait(int *status)
{
	return met(may_meet(-1, 0) ? wait_for_own(-1, status, 0, NULL) : next___wait(status));
}

CPR_EXPORT pid_t waitpid(pid_t pid, int *status, int options)
{
	return met(may_meet(pid, options) ? wait_for_own(pid, status, options, NULL)
					  : next_waitpid(pid, status, options));
}

CPR_EXPORT pid_t __waitpid(pid_t pid, int *status, int options)
{
	return met(may_meet(pid, options) ? wait_for_own(pid, status, options, NULL)
					  : next___waitpid(pid, status, options));
}

CPR_EXPORT pid_t wait3(int *status, int options, struct rusage *usage)
{
	return met(may_meet(-1, options) ? wait_for_own(-1, status, options, usage)
					 : next_wait3(status, options, usage));
}

CPR_EXPORT pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage)
{
	return met(may_meet(pid, options) ? wait_for_own(pid, status, options, usage)
					  : next_wait4(pid, status, options, usage));
}

static bool child_has_ended(const siginfo_t *info)
{
	return info->si_code == CLD_EXITED || info->si_code == CLD_KILLED || info->si_code == CLD_DUMPED;
}

/*
 * A dead child that was only looked at (WNOWAIT) would be met again: children_reap waits for it. Any other state
 * that was only looked at is taken here.
 */
static void child_take(const siginfo_t *info, int options)
{
	siginfo_t taken;

	if (options & WNOWAIT && !child_has_ended(info))
		next_waitid(P_PID, (id_t)info->si_pid, &taken, (options & (WSTOPPED | WCONTINUED)) | WNOHANG);
}

static __attribute__((noinline)) int waitid_for_own(int kind, id_t id, siginfo_t *info, int options)
{
	siginfo_t room, *said = info ? info : &room;
	int r;

	do {
		children_reap();
		if (kind == P_ALL && children_are_strangers()) {
			errno = ECHILD;
			return -1;
		}
		r = next_waitid(kind, id, said, options); /* with WNOHANG, si_pid 0 says that there is none */
		if (!r && said->si_pid && children_swallow(said->si_pid, child_has_ended(said) && !(options & WNOWAIT)))
			child_take(said, options);
		else
			break;
	} while (true);
	return r;
}

CPR_EXPORT int waitid(idtype_t kind, id_t id, siginfo_t *info, int options)
{
	return met((kind == P_ALL || kind == P_PGID) && may_meet(-1, options)
			   ? waitid_for_own((int)kind, id, info, options)
			   : next_waitid((int)kind, id, info, options));
}
