/* SPDX-License-Identifier: MIT */
/*
 * Credentials and namespaces. The kernel keeps them per thread. libc changes them in all threads that it knows, and it
 * does not know the task. A task from before would keep the rights that the program gives up. And unshare(2) and
 * setns(2) refuse a process with several threads.
 */
#define _GNU_SOURCE
#include "base/attr.h"
#include "base/next.h"
#include "process/task.h"
#include "wrap/wrap.h"

#include <sys/syscall.h>

#define WITHOUT_TASK(name, params, args)                                                                               \
	CPR_EXPORT int name params                                                                                     \
	{                                                                                                              \
		int r;                                                                                                 \
                                                                                                                       \
		task_pause();                                                                                          \
		r = next_##name args;                                                                                  \
		task_resume();                                                                                         \
		return r;                                                                                              \
	}

WITHOUT_TASK(setuid, (uid_t id), (id))
WITHOUT_TASK(setgid, (gid_t id), (id))
WITHOUT_TASK(seteuid, (uid_t id), (id))
WITHOUT_TASK(setegid, (gid_t id), (id))
WITHOUT_TASK(setreuid, (uid_t real, uid_t effective), (real, effective))
WITHOUT_TASK(setregid, (gid_t real, gid_t effective), (real, effective))
WITHOUT_TASK(setresuid, (uid_t real, uid_t effective, uid_t saved), (real, effective, saved))
WITHOUT_TASK(setresgid, (gid_t real, gid_t effective, gid_t saved), (real, effective, saved))
WITHOUT_TASK(setgroups, (size_t n, const gid_t *groups), (n, groups))
WITHOUT_TASK(initgroups, (const char *user, gid_t group), (user, group))
WITHOUT_TASK(setfsuid, (uid_t id), (id))
WITHOUT_TASK(setfsgid, (gid_t id), (id))
WITHOUT_TASK(capset, (void *header, const void *data), (header, data))
WITHOUT_TASK(unshare, (int flags), (flags))
WITHOUT_TASK(setns, (int fd, int type), (fd, type))

bool cpr__is_of_credentials(long nr)
{
	static const long numbers[] = {SYS_setuid,    SYS_setgid,    SYS_setreuid,  SYS_setregid,
				       SYS_setresuid, SYS_setresgid, SYS_setgroups, SYS_setfsuid,
				       SYS_setfsgid,  SYS_capset,    SYS_unshare,   SYS_setns};

	for (size_t i = 0; i < countof(numbers); i++)
		if (numbers[i] == nr)
			return true;
	return false;
}

long cpr__without_task(long nr, const long *a)
{
	long r;

	task_pause();
	r = next_syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	task_resume();
	return r;
}
