/* SPDX-License-Identifier: MIT */
/* The threads of this process: signalled one by one. */
#define _GNU_SOURCE
#include "restart/threads.h"

#include "base/fds.h"
#include "base/next.h"
#include "process/doorbell.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

void threads_ring(int tid)
{
	if (tid > 0)
		doorbell_call_out(getpid(), tid);
}

static void ring_other(int tid, void *arg)
{
	const int *own = arg;

	if (tid != *own)
		threads_ring(tid);
}

void threads_look_again(void)
{
	int own = (int)next_sys(SYS_gettid), saved_errno = errno;

	if (!fds_walk_in("/proc/self/task", ring_other,
			 &own)) /* no /proc: the first thread is the one that most likely waits */
		threads_ring(getpid());
	errno = saved_errno;
}
