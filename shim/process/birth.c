/* SPDX-License-Identifier: MIT */
/* Births: a process is recognised as new on its first call into the library, and hooks run around each fork. */
#define _GNU_SOURCE
#include "process/birth.h"
#include "process/sandbox.h"

#include "base/log.h"
#include "base/next.h"
#include "base/pool.h"

#include <errno.h>
#include <linux/kcmp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#pragma weak __libc_single_threaded

enum {
	SIGSETXID = 33, /* not blocked: setuid() waits until every thread has handled it */
	CLEARED_ROOM = 1 << 16,
	BORN_MAX = 16,
	FORK_MAX = 16,
};

/*
 * The kernel clears this in every child with a copy of our memory (fork, _Fork, clone), and not in one that shares our
 * memory (vfork, posix_spawn). So one getpid() tells all of these apart, and none has to be wrapped. C cannot wrap
 * vfork at all. system() and popen() spawn inside libc, out of our reach. Other state that a child must not inherit is
 * here, too: birth_cleared.
 */
cpr_touched struct birth_self *birth_self;

cpr_touched int birth_known_as;

static cpr_touched struct around {
	void (*before)(void);
	void (*after)(void);
} around_fork[FORK_MAX];
static cpr_touched int around_count;

static cpr_touched void (*first_at_fork)(void);
static void (*born[BORN_MAX])(void);
static int born_count;

/*
 * In one place of the library, with its data in another: after a fork, each page that a process touches costs it a
 * fault.
 */
#define fork_path __attribute__((hot, noinline))

void birth_around_fork(void (*before)(void), void (*after)(void))
{
	for (int i = 0; i < around_count; i++)
		if (around_fork[i].before == before)
			return;
	if (around_count == FORK_MAX) {
		log_error("no room for more than %d hooks around fork", (int)FORK_MAX);
		return;
	}
	around_fork[around_count] = (struct around){before, after};
	around_count++;
}

void birth_when_born(void (*forget)(void))
{
	if (born_count < BORN_MAX)
		born[born_count++] = forget;
	else
		log_error("no room for more than %d hooks at birth", (int)BORN_MAX);
}


/*
 * Where libc keeps a thread's tid, from the thread's pthread_self(); 0: not known. fork() notes the child's tid there,
 * and vfork() leaves the parent's. So memory tells them apart, and a child in a sandbox need not make a system call for
 * it.
 */
static cpr_touched ptrdiff_t tid_offset;

static void find_tid_offset(void)
{
	char *at = NULL;

	if (!tid_offset && !next_prctl(PR_GET_TID_ADDRESS, (unsigned long)&at, 0, 0, 0) && at)
		tid_offset = at - (char *)pthread_self();
}

int birth_libc_tid(void)
{
	int tid = 0;

	find_tid_offset(); /* _Fork() and clone() ran no hook */
	if (tid_offset)
		memcpy(&tid, (char *)pthread_self() + tid_offset, sizeof(tid));
	return tid;
}

/*
 * The cleared memory holds no pid. So this is a new process; or a vfork child of one that has not called the library
 * yet. To store the pid of such a vfork child would make its parent deaf to the doorbell.
 */
static bool is_born(int me)
{
	int tid;

	if (atomic_load(&birth_self->born_as) == me)
		return true;
	tid = birth_libc_tid();
	/* by clone(), libc knows nothing of it */
	if (tid != me && (!tid || tid != (int)next_sys(SYS_gettid)) && getppid() != birth_known_as &&
	    next_sys(SYS_kcmp, me, getppid(), KCMP_VM, 0, 0) <= 0)
		return false;
	atomic_store(&birth_self->born_as, me);
	return true;
}

static void run_hooks(int me)
{
	birth_self->parent = birth_known_as;
	birth_known_as = me;
	for (int i = 0; i < born_count; i++)
		born[i]();
	atomic_store(&birth_self->pid, me);
}

/* Two threads of a child may ask at once. 1 s: the hooks wait for nothing. */
static bool await_hooks(int me)
{
	struct timespec turn = {0, 100000};

	for (int i = 0; i < 10000 && !atomic_load(&birth_self->pid); i++)
		next_sys(SYS_nanosleep, &turn, NULL);
	return atomic_load(&birth_self->pid) == me;
}

/*
 * The first thing that a child with its own copy of our memory does here. Signals wait: a handler of the program would
 * meet hooks that have not run.
 */
static bool ask_first(int me)
{
	uint64_t all = ~(UINT64_C(1) << (SIGSETXID - 1)), before;
	void *nobody = NULL;
	int saved_errno = errno;
	bool own = true;

	if (atomic_load(&birth_self->asking) == &errno) /* a hook asks */
		return true;
	next_sys(SYS_rt_sigprocmask, SIG_BLOCK, &all, &before, sizeof(all));
	if (!is_born(me))
		own = false;
	else if (atomic_compare_exchange_strong(&birth_self->asking, &nobody, &errno))
		run_hooks(me);
	else
		own = await_hooks(me);
	next_sys(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof(all));
	errno = saved_errno;
	return own;
}

__attribute__((hot)) bool birth_own_memory(void)
{
	int me, known;

	if (!birth_self)
		return false;
	if (sandboxed()) /* a vfork child in a sandbox is taken for its parent: the kernel must not be asked */
		return birth_self->pid;
	me = getpid();
	known = atomic_load_explicit(&birth_self->pid, memory_order_acquire);
	if (likely(known == me))
		return true;
	return !known && ask_first(me);
}

bool birth_is_own(void)
{
	int me = getpid(), known = birth_self ? atomic_load(&birth_self->pid) : -1, saved_errno = errno;
	bool own = known == me || (!known && is_born(me));

	errno = saved_errno;
	return own;
}

void *birth_cleared(size_t size)
{
	static size_t used = (sizeof(struct birth_self) + 63) & ~(size_t)63;
	char *room = (char *)birth_self + used;

	if (!birth_self || size > CLEARED_ROOM - used)
		return NULL;
	used += (size + 63) & ~(size_t)63;
	return room;
}

__attribute__((hot)) bool birth_is_single_threaded(void)
{
	return &__libc_single_threaded && __libc_single_threaded;
}

/*
 * Each page that a child touches costs it a fault, and a short fork costs no more than some dozens of faults. So
 * nothing of ours runs in a child before its first call into the library: there is no child handler in pthread_atfork.
 * On that call the child works out what it is (after_birth). The owner finds the processes to ring for a restart by
 * itself (process/roster.c).
 */
static fork_path void prepare(void)
{
	first_at_fork();
	find_tid_offset();
	for (int i = around_count; i-- > 0;)
		around_fork[i].before();
}

static fork_path void parent(void)
{
	for (int i = 0; i < around_count; i++)
		if (around_fork[i].after)
			around_fork[i].after();
}

/* In a sandbox the kernel cannot be asked any more. */
static void know_before_sandbox(void)
{
	birth_own_memory();
}

/*
 * What pthread_atfork() calls; that stands at the very end of the library's code, and every program would read that
 * page for it.
 */
extern int __register_atfork(void (*before)(void), void (*parent)(void), void (*child)(void), void *library);
extern void *__dso_handle __attribute__((visibility("hidden")));

cpr_startup int birth_watch_forks(void (*first)(void))
{
	first_at_fork = first;
	return __register_atfork(prepare, parent, NULL, __dso_handle) ? -ENOMEM : 0;
}

int birth_init(void)
{
	void *page = pool_map(CLEARED_ROOM);

	if (!page)
		return -ENOMEM;
	if (madvise(page, CLEARED_ROOM, MADV_WIPEONFORK))
		return -errno;
	birth_self = page;
	*birth_self = (struct birth_self){.pid = getpid(), .parent = getppid()};
	birth_known_as = birth_self->pid;
	sandbox_when_entering(know_before_sandbox);
	return 0;
}
