/* SPDX-License-Identifier: MIT */
/* The threads of this process: signalled one by one. */
#define _GNU_SOURCE
#include "restart/threads.h"

#include "base/fds.h"
#include "base/next.h"
#include "process/guard.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

static void signal_thread(int tid, void *arg)
{
	const int *own = arg;

	if (tid != own[1])
		next_sys(SYS_tgkill, own[0], tid, cpr__settings.signal);
}

void threads_look_again(void)
{
	int own[2] = {getpid(), (int)next_sys(SYS_gettid)}, saved_errno = errno;

	if (!fds_walk_in("/proc/self/task", signal_thread, own)) /* no /proc: the first thread is the one that most likely waits */
		signal_thread(own[0], own);
	errno = saved_errno;
}
