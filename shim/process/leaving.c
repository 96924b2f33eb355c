/* SPDX-License-Identifier: MIT */
/* Processes that are about to exec. */
#define _GNU_SOURCE
#include "process/leaving.h"

#include "base/next.h"
#include "process/page.h"
#include "process/procinfo.h"

#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>

__attribute__((hot)) void leaving_begin(int me, uint64_t now)
{
	int place = me % PAGE_LEAVING;

	atomic_store(&page_shared->leaving[place].at, now);
	atomic_store(&page_shared->leaving[place].pid, me);
}

void leaving_call_off(int me)
{
	int left = me;

	atomic_compare_exchange_strong(&page_shared->leaving[me % PAGE_LEAVING].pid, &left, 0);
}

bool leaving_is(int pid, uint64_t start_time)
{
	int place = pid % PAGE_LEAVING;

	return atomic_load(&page_shared->leaving[place].pid) == pid &&
	       start_time <= atomic_load(&page_shared->leaving[place].at);
}

void leaving_await(int pid)
{
	struct timespec ms = {0, 1000000};
	struct procinfo proc;

	for (int i = 0; page_shared && i < 20 && procinfo_look(pid, &proc) && !proc.dead &&
			procinfo_is_forked(proc.flags) && leaving_is(pid, proc.start_time);
	     i++)
		next_sys(SYS_nanosleep, &ms, NULL);
}
