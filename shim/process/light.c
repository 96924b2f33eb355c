/* SPDX-License-Identifier: MIT */
/* When a light start ends. */
#define _GNU_SOURCE
#include "process/light.h"

#include "base/sys.h"
#include "base/pool.h"
#include "process/guard.h"
#include "process/sandbox.h"
#include "process/snapshot.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/kcmp.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>

enum { IDLE, MAKING, MADE };
enum { TURNS = 100, TURN_MS = 20 };
enum { STACK = 128 * 1024 }; /* the thread that comes here may have 16 KiB in all */

cpr_touched _Atomic bool light_start;
static cpr_touched void (*make_rest)(void);
static _Atomic int phase; /* a futex */
static _Atomic int maker; /* the thread */

cpr_startup void light_until(void (*rest)(void))
{
	make_rest = rest;
	atomic_store(&light_start, true);
}

/*
 * fork() ends a light start, so another pid than the snapshot's is of a vfork child, or of one that was born past libc.
 * The kernel knows which. A vfork child's parent is alive: it waits.
 */
static bool own_memory(void)
{
	int me = (int)sys(SYS_getpid);
	long r;

	if (likely(me == cpr__snapshot.pid))
		return true;
	r = sys(SYS_kcmp, me, cpr__snapshot.pid, KCMP_VM, 0, 0);
	if (!r || (r < 0 && r != -ESRCH))
		return false;
	cpr__snapshot.pid = me;
	return true;
}

/* The maker may have been another process's thread, at the moment of this one's birth: so not for ever. */
static void await(void)
{
	struct timespec turn = {0, TURN_MS * 1000000L};

	for (int i = 0; i < TURNS && atomic_load(&phase) == MAKING; i++)
		sys(SYS_futex, &phase, FUTEX_WAIT_PRIVATE, MAKING, &turn);
}

static void make(void)
{
	char *stack = pool_map(STACK);

	atomic_store(&maker, (int)sys(SYS_gettid));
	guard_give_only(maker);
	if (stack)
		sys_on_stack(make_rest, stack + STACK);
	else
		make_rest();
	pool_unmap(stack, STACK);
	guard_give_only(0);
	atomic_store(&light_start, false);
	atomic_store(&phase, MADE);
	sys(SYS_futex, &phase, FUTEX_WAKE_PRIVATE, 1 << 30);
}

void light_end(void)
{
	int idle = IDLE, saved_errno = errno;
	sigset_t before;

	if (sandboxed() || !own_memory() || atomic_load(&maker) == (int)sys(SYS_gettid))
		return;
	guard_block(&before);
	if (atomic_compare_exchange_strong(&phase, &idle, MAKING))
		make();
	else
		await();
	light_spare(&before);
	guard_unblock(&before);
	errno = saved_errno;
}

void light_spare(sigset_t *set)
{
	sigdelset(set, cpr__settings.signal ? cpr__settings.signal : settings_doorbell((char **)cpr__snapshot.envp));
}

void light_asked(int sig)
{
	if (!atomic_load_explicit(&light_start, memory_order_relaxed))
		return;
	if (sig == settings_doorbell((char **)cpr__snapshot.envp))
		light_end();
	else
		snapshot_note_signal(sig);
}

bool light_matters(int fd)
{
	int saved_errno = errno;
	struct stat st;
	bool matters;

	if (likely(!atomic_load_explicit(&light_start, memory_order_relaxed)) || sandboxed())
		return false;
	matters = !fstat(fd, &st) && (S_ISFIFO(st.st_mode) ||
				      (S_ISCHR(st.st_mode) && major(st.st_rdev) != 1 && major(st.st_rdev) != 5));
	errno = saved_errno;
	return matters;
}
