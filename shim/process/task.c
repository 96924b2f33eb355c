/* SPDX-License-Identifier: MIT */
/* The task: its birth in a handler, its rounds, and its end. */
#define _GNU_SOURCE
#include "process/snapshot.h"
#include "process/task.h"

#include "base/attr.h"
#include "base/io.h"
#include "base/log.h"
#include "base/next.h"
#include "process/birth.h"
#include "process/guard.h"
#include "process/lent.h"
#include "process/sandbox.h"
#include "process/light.h"
#include "process/task_arch.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <locale.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

enum {
	ERRANDS_MAX = 8,
	FIRST_STACK = 4096,    /* until it has a stack of its own */
	FIRST_BLOCK = 4096,    /* libc's struct pthread has room in it */
	STACK = 256 * 1024,
	GUARD_PAGE = 4096,     /* below the stack, and not there: an overflow ends the process where it happens */
	BLOCK_MARGIN = 8192,   /* beyond errno and our variables: libc's others, and its struct pthread */
	GONE_TURN_NS = 50000,
	NO_MEMORY_MS = 100,    /* until its stack is asked for again */
};

/*
 * The word: is it alive, and how often was it woken. In one, so that it cannot end between a wake and its look at it.
 */
enum { ALIVE = 1, WOKEN = 2 };

/* A forked child finds this cleared: it has no task. */
static cpr_touched struct own {
	_Atomic unsigned word;
	_Atomic int thread; /* the tid of the last one, also when it has ended */
	_Atomic int pauses;
	_Atomic bool wanted;  /* it was woken, or ended, in a pause */
	_Atomic bool forbidden; /* the library has not started yet */
} *own;

static int (*errands[ERRANDS_MAX])(void);
static size_t errand_count;

/*
 * The thread pointer of the task until it has a block of its own. That of the interrupted thread may be gone before the
 * task's first step, with the mapping into which it points. Nothing thread-local is touched here, but code with a stack
 * guard reads its value there.
 */
static _Alignas(64) cpr_large char first_block[FIRST_BLOCK];
static _Alignas(16) cpr_large char first_stack[FIRST_STACK];
static char *room;         /* the stack and the block above it; stays mapped from the first task on */
static char *stack_top, *thread_pointer;
static size_t below, above; /* the thread pointer, in its block */
static cpr_thread bool is_task;

void task_adds(int (*look)(void))
{
	if (errand_count < ERRANDS_MAX)
		errands[errand_count++] = look;
	else
		log_error("no room for more than %d errands", (int)ERRANDS_MAX);
}

/*
 * What lies furthest from the thread pointer, below and above it, of all that is touched here: the same for each
 * thread.
 */
static void span_of_block(void)
{
	char *here = arch_thread_pointer();
	char *touched[] = {(char *)&errno, (char *)&is_task, (char *)&guard_depth};

	below = above = BLOCK_MARGIN;
	for (size_t i = 0; i < countof(touched); i++) {
		size_t far = touched[i] < here ? (size_t)(here - touched[i]) : (size_t)(touched[i] - here);

		if (touched[i] < here && far + BLOCK_MARGIN > below)
			below = far + BLOCK_MARGIN;
		if (touched[i] >= here && far + BLOCK_MARGIN > above)
			above = far + BLOCK_MARGIN;
	}
	below = (below + 4095) & ~(size_t)4095;
	above = (above + 4095) & ~(size_t)4095;
}

int task_init(void)
{
	own = birth_cleared(sizeof(*own));
	if (!own || lent_init())
		return -ENOMEM;
	span_of_block();
	guard_beside(&own->word);
	atomic_store(&own->forbidden, true);
	return 0;
}

/* ---- its life ---- */

/* It ends if it was not woken since it saw this. */
static void end_if_unwoken(unsigned seen)
{
	arch_end_if(&own->word, seen, seen & ~(unsigned)ALIVE);
}

static int round_of_errands(void)
{
	int soonest = 0;

	for (size_t i = 0; i < errand_count; i++) {
		int ms = errands[i]();

		if (ms && (!soonest || ms < soonest))
			soonest = ms;
	}
	return soonest;
}

static void sleep_until_woken(unsigned seen, int ms)
{
	struct timespec time = {ms / 1000, ms % 1000 * 1000000L};

	next_sys(SYS_futex, &own->word, FUTEX_WAIT_PRIVATE, seen, &time);
}

/*
 * Clients that are held back wait for its next look. Behind the 128 threads of an apache with two processes it came
 * late: drains took 30 to 140 ms, and 25 to 75 so. The program may not be allowed that; then it is as it is. What it
 * execs gets the nice value of the start (process/startup.c). A filter that it was started under may end it for asking:
 * redis as Debian ships it (SystemCallFilter=~@resources) was killed by SIGSYS.
 */
static void come_first(void)
{
	long nice;

	if (cpr__snapshot.filters)
		return;
	nice = 20 - next_sys(SYS_getpriority, PRIO_PROCESS, 0);

	next_sys(SYS_setpriority, PRIO_PROCESS, 0, nice - 10);
}

static void live(void)
{
	is_task = true;
	uselocale(LC_GLOBAL_LOCALE); /* the one variable of libc's that does not begin as 0; fnmatch(3) needs it */
	atomic_store(&own->thread, (int)next_sys(SYS_gettid));
	come_first();
	birth_own_memory(); /* in a forked child that has not asked for anything yet */
	guard_await_fork();
	for (;;) {
		unsigned seen = atomic_load(&own->word);
		int ms = atomic_load(&own->pauses) ? 0 : round_of_errands();

		if (ms)
			sleep_until_woken(seen, ms);
		else
			end_if_unwoken(seen);
	}
}

/* ---- its birth ---- */

/* Not when the library starts: each mapping makes each fork dearer, and most processes never have a task. */
static bool map_room(void)
{
	long at;

	if (room)
		return true;
	at = sys(SYS_mmap, 0, GUARD_PAGE + STACK + below + above, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at < 0 && at > -4096)
		return false;
	if (sys(SYS_mprotect, at + GUARD_PAGE, STACK + below + above, PROT_READ | PROT_WRITE) < 0) {
		sys(SYS_munmap, at, GUARD_PAGE + STACK + below + above);
		return false;
	}
	room = (char *)at;
	stack_top = room + GUARD_PAGE + STACK;
	thread_pointer = stack_top + below;
	return true;
}

/* The last task has ended without a return from the functions in which it was. */
static void forget_frames(void)
{
#ifdef __SANITIZE_ADDRESS__
	ASAN_UNPOISON_MEMORY_REGION(first_stack, FIRST_STACK);
	ASAN_UNPOISON_MEMORY_REGION(room + GUARD_PAGE, STACK + below + above);
#endif
}

/*
 * The block is cleared for each task: the last one may have been another process's, which forked in the middle of its
 * work.
 */
static bool task_make_room(void)
{
	if (!map_room())
		return false;
	forget_frames();
	memset(stack_top, 0, below + above);
	arch_prepare_block(thread_pointer);
	return true;
}

/* A child of vfork, which runs on our memory, has no task: that would be a thread of another process. */
static bool task_is_ours(void)
{
	return !birth_self->pid || birth_self->pid == (int)sys(SYS_getpid);
}

/*
 * The first steps are on a small stack, and with a thread pointer behind which nothing lies: no errno here. (The
 * address sanitizer would ask libc for this thread's stack.)
 */
static __attribute__((no_sanitize("address"))) void begin(void)
{
	if (task_is_ours()) {
		if (task_make_room())
			cpr__task_enter(stack_top, thread_pointer, live);
		lent_ring_in(NO_MEMORY_MS); /* else what it has to do would wait for the next ring */
	}
	for (;;)
		end_if_unwoken(atomic_load(&own->word));
}

static void task_start(void)
{
	unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
			      CLONE_SETTLS;

	arch_prepare_block(first_block);
	if (cpr__task_clone(flags, first_stack + FIRST_STACK, begin, first_block) >= 0)
		return;
	atomic_fetch_and(&own->word, ~(unsigned)ALIVE);
	if (task_is_ours()) /* a timer is its process's alone, and what is noted of it lies in the parent's memory */
		lent_ring_in(0);
}

/* The first that makes it alive starts it. */
static void start_once(void)
{
	if (!(atomic_fetch_or(&own->word, ALIVE) & ALIVE))
		task_start();
}

/*
 * In a pause nothing is started; but the end of the pause may not see what is noted here. So the second of the two
 * starts it.
 */
static void note_for_later(void)
{
	atomic_store(&own->wanted, true);
	if (!atomic_load(&own->pauses) && atomic_exchange(&own->wanted, false))
		start_once();
}

/*
 * In a child that has not called into the library yet, libc's data of this thread shows whether it is a vfork child:
 * libc does not know the task.
 */
static bool may_start(void)
{
	return own && !sandboxed() && !atomic_load(&own->forbidden) && (likely(birth_self->pid) || birth_is_own());
}

void task_wake_in_handler(void)
{
	if (!may_start())
		return;
	if (atomic_fetch_add(&own->word, WOKEN) & ALIVE)
		sys(SYS_futex, &own->word, FUTEX_WAKE_PRIVATE, 1);
	else if (atomic_load(&own->pauses))
		note_for_later();
	else
		start_once();
}

/* ---- its rounds in a thread of the program ---- */

static void lent_round(void)
{
	int ms;

	birth_own_memory();
	ms = round_of_errands();
	if (ms)
		lent_ring_in(ms);
}

void task_round_in_handler(void)
{
	unsigned was;

	if (!may_start() || !task_is_ours())
		return;
	lent_rang();
	if (atomic_load(&own->pauses)) {
		note_for_later();
		return;
	}
	was = atomic_fetch_or(&own->word, ALIVE);
	if (was & ALIVE) {
		task_wake_in_handler(); /* the round that ends in this moment must not leave without a next one */
		return;
	}
	if (!guard_lend()) {
		lent_ring_in(1);
	} else {
		if (task_make_room())
			cpr__task_call(stack_top, lent_round);
		else
			lent_ring_in(NO_MEMORY_MS);
		guard_lend_over();
	}
	/* a wake that came meanwhile found it alive, and has set no timer */
	if ((atomic_fetch_and(&own->word, ~(unsigned)ALIVE) & ~(unsigned)ALIVE) != was)
		lent_ring_in(0);
}

void task_wake(void)
{
	sigset_t before;

	if (!may_start())
		return;
	if (atomic_load(&own->word) & ALIVE) { /* most often: to wake it takes no mask */
		unsigned was = atomic_fetch_add(&own->word, WOKEN);

		sys(SYS_futex, &own->word, FUTEX_WAKE_PRIVATE, 1);
		if (was & ALIVE)
			return;
	}
	if (lent_is_armed()) {
		lent_hasten();
		return;
	}
	guard_block(&before); /* the task begins with the mask of the thread that starts it */
	task_wake_in_handler();
	guard_unblock(&before);
}

/* ---- without it ---- */

/* It says so a moment before the kernel counts it no more. */
static bool task_is_gone(void)
{
	int thread = atomic_load(&own->thread);

	return !thread || (sys(SYS_tgkill, sys(SYS_getpid), thread, 0) == -ESRCH);
}

void task_pause(void)
{
	struct timespec turn = {0, GONE_TURN_NS};

	begin_if_light(); /* what this process was at its start is about to change */
	if (!own)
		return;
	atomic_fetch_add(&own->pauses, 1);
	if (atomic_fetch_add(&own->word, WOKEN) & ALIVE) {
		atomic_store(&own->wanted, true); /* it had something to do */
		sys(SYS_futex, &own->word, FUTEX_WAKE_PRIVATE, 1);
	}
	while (atomic_load(&own->word) & ALIVE || !task_is_gone())
		sys(SYS_nanosleep, &turn, NULL);
	atomic_store(&own->thread, 0);
}

void task_resume(void)
{
	if (own && atomic_fetch_sub(&own->pauses, 1) == 1 && atomic_exchange(&own->wanted, false))
		task_wake();
}

/* What it had to do waits for the next wake, which does nothing in a sandbox. */
static void end_for_sandbox(void)
{
	task_pause();
	if (own)
		atomic_store(&own->wanted, false);
	task_resume();
}

void task_begin(bool at_once)
{
	sandbox_when_entering(end_for_sandbox);
	atomic_store(&own->forbidden, false);
	if (at_once)
		task_wake();
}
