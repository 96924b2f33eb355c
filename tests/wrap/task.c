/* SPDX-License-Identifier: MIT */
/* The task answers the doorbell: whatever its threads are in the middle of, a program lives on and is answered. */
#include "../../shim/base/sys.h"
#include "../support/sockets.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { ALT_STACK = 8192, RINGS = 40, OWN_SHARE = 512, LARGE = 256 << 20 };

static _Atomic bool over;

static void ring_and_wait(int count, int every_ms)
{
	char rings[64];

	snprintf(rings, sizeof(rings), "rings %d %d", count, every_ms);
	CHECK(!strcmp(ask("%s", rings), "ok"));
}

static void all_were_answered(int count)
{
	CHECK_INT(atoi(ask("rung")), count);
}

/* ---- what the program is in the middle of ---- */

static void *fork_on(void *unused)
{
	while (!over) {
		int pid = MUST(fork()), status;

		if (!pid)
			_exit(0);
		MUST(waitpid(pid, &status, 0));
	}
	return unused;
}

static void allocate_for(int ms)
{
	for (long until = now_ms() + ms; now_ms() < until;)
		for (size_t n = 16; n < 1 << 16; n *= 2)
			free(malloc(n));
}

/*
 * fork() holds our lock, and waits for malloc's; the thread that rings find holds malloc's. A handler that waited for
 * our lock hung at the first ring.
 */
TEST(rings_amid_fork_and_malloc_are_answered, ONCE)
{
	pthread_t forks;

	CHECK_INT(pthread_create(&forks, NULL, fork_on, NULL), 0);
	ring_and_wait(RINGS, 10);
	allocate_for(600); /* the kernel gives a ring to the first thread, if that can take it */
	all_were_answered(RINGS);
	over = true;
	pthread_join(forks, NULL);
}

/* A ring that came amid fork() waited for that very fork, 100 times a millisecond: status took 324 ms. */
TEST(rings_amid_slow_forks_wait_for_none, ONCE)
{
	char *large = mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long began;

	CHECK(large != MAP_FAILED);
	madvise(large, LARGE, MADV_NOHUGEPAGE);
	memset(large, 1, LARGE); /* so that a fork takes milliseconds */
	began = now_ms();
	ring_and_wait(20, 1);
	while (now_ms() - began < 300) {
		int pid = MUST(fork());

		if (!pid)
			_exit(0);
		MUST(waitpid(pid, NULL, 0));
	}
	all_were_answered(20);
	munmap(large, LARGE);
}

/* ---- alternate stacks ---- */

static char *with_alternate_stack(void)
{
	char *room = mmap(NULL, ALT_STACK + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	stack_t stack = {.ss_sp = room + 4096, .ss_size = ALT_STACK};

	CHECK(room != MAP_FAILED);
	MUST(mprotect(room, 4096, PROT_NONE));
	MUST(sigaltstack(&stack, NULL));
	return room + 4096;
}

/* As Rust gives each thread one. 8,236 bytes were used when the handler did the work. */
TEST(a_small_alternate_stack_survives_rings, BELL)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);

	with_alternate_stack();
	ring_and_wait(RINGS, 2);
	all_were_answered(RINGS);
	if (generation() < 3)
		next_generation();
	close(fd);
}

static void do_nothing(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)info, (void)context;
}

static size_t used_of(const char *stack)
{
	size_t clean = 0;

	while (clean < ALT_STACK && stack[clean] == 0x5a)
		clean++;
	return ALT_STACK - clean;
}

/* Of the alternate stack: the kernel's own frame is measured by a handler that does nothing. */
TEST(the_handler_takes_less_than_512_bytes, ONCE)
{
	struct sigaction nothing = {.sa_sigaction = do_nothing, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	char *stack = with_alternate_stack();
	size_t kernel, ours;

	MUST(sigaction(SIGUSR1, &nothing, NULL));
	memset(stack, 0x5a, ALT_STACK);
	MUST(raise(SIGUSR1));
	kernel = used_of(stack);
	CHECK(kernel > 500);
	memset(stack, 0x5a, ALT_STACK);
	ring_and_wait(RINGS, 1);
	all_were_answered(RINGS);
	ours = used_of(stack);
	CHECK(ours > 500); /* it was measured at all */
	CHECK(ours < kernel + OWN_SHARE);
}

/* ---- calls that want one thread, and rights of threads ---- */

TEST(a_program_of_one_thread_stays_one, ONCE)
{
	ring_and_wait(100, 2);
	for (long until = now_ms() + 400; now_ms() < until;)
		MUST(unshare(CLONE_VM)); /* EINVAL where there is another thread */
	all_were_answered(100);
}

static int threads_that_are_not(uid_t uid)
{
	DIR *tasks = opendir("/proc/self/task");
	int wrong = 0;

	CHECK(tasks != NULL);
	for (struct dirent *e; (e = readdir(tasks));) {
		char path[300], line[256];
		unsigned real = uid;
		FILE *status;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status", e->d_name);
		status = e->d_name[0] == '.' ? NULL : fopen(path, "re");
		while (status && fgets(line, sizeof(line), status))
			if (sscanf(line, "Uid: %u", &real) == 1)
				break;
		if (status)
			fclose(status);
		wrong += real != uid;
	}
	closedir(tasks);
	return wrong;
}

/* libc changes the rights of all threads that it knows of. */
TEST(no_task_keeps_the_rights_that_the_program_gives_up, ONCE)
{
	if (getuid())
		return;
	ring_and_wait(100, 2);
	for (long until = now_ms() + 400; now_ms() < until;) {
		MUST(seteuid(65534));
		MUST(setreuid(65534, 0));
		CHECK_INT(threads_that_are_not(65534), 0);
		MUST(setreuid(0, 0));
		CHECK_INT(threads_that_are_not(0), 0);
	}
	CHECK(atoi(ask("rung")) > 50); /* while it is another user, root's rings are answered as well */
}

/* ---- the program goes on ---- */

TEST(the_task_ends_when_there_is_nothing_to_do, ONCE)
{
	ring_and_wait(10, 1);
	all_were_answered(10);
	for (long until = now_ms() + 5000; now_ms() < until; sched_yield()) {
		DIR *tasks = opendir("/proc/self/task");
		int n = 0;

		CHECK(tasks != NULL);
		while (readdir(tasks))
			n++;
		closedir(tasks);
		if (n == 3) /* with . and .. */
			return;
	}
	CHECK(!"it has ended");
}

/* ---- a thread that is gone before the task has made its first step ---- */

enum { BLOCK = 64 * 1024, RUNG_AND_GONE = 50 };

static struct brief {
	char *block; /* its thread-local variables */
	_Atomic int tid;
	siginfo_t ring;
} brief;

/* As musl's detached threads end: with the mapping that their thread pointer points into. */
static int ring_and_go(void *unused)
{
	long pid = sys(SYS_getpid), tid = sys(SYS_gettid);

	sys(SYS_rt_tgsigqueueinfo, pid, tid, SIGRTMAX - 5, &brief.ring);
	sys(SYS_munmap, brief.block, BLOCK);
	sys(SYS_exit, 0);
	return unused != NULL;
}

static void one_rings_and_goes(char *stack)
{
	const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
			  CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
	char **pointer;

	brief.block = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(brief.block != MAP_FAILED);
	pointer = (char **)(brief.block + BLOCK / 2);
	pointer[0] = pointer[2] = (char *)pointer;
	MUST(clone(ring_and_go, stack + BLOCK, flags, NULL, &brief.tid, pointer, &brief.tid));
	CHECK(AWAIT(!brief.tid, 5000));
}

/* On one processor the task's first step comes after the thread's last one: it took its thread pointer from there. */
TEST(a_thread_that_was_rung_may_be_gone_at_once, ONCE)
{
	char *stack = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cpu_set_t one;

	CHECK(stack != MAP_FAILED);
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	MUST(sched_setaffinity(0, sizeof(one), &one));
	brief.ring.si_code = SI_QUEUE;
	brief.ring.si_value.sival_ptr = (void *)(1L << 40); /* no process listens */
	for (int i = 0; i < RUNG_AND_GONE; i++)
		one_rings_and_goes(stack);
	CHECK(strstr(ask("status"), "result=ok"));
}

/* ---- where no thread can be started ---- */

static void *nothing_at_all(void *unused)
{
	return unused;
}

/* As in haproxy's workers: root is not counted. */
static void let_no_thread_start(void)
{
	pthread_t thread;

	MUST(setrlimit(RLIMIT_NPROC, &(struct rlimit){0, 0}));
	if (!getuid())
		MUST(setresuid(65534, 65534, 65534));
	CHECK_INT(pthread_create(&thread, NULL, nothing_at_all, NULL), EAGAIN);
}

/* Nor may a call of the program's end early for the timer that rings instead: it waits in one from before it rings. */
TEST(rings_are_answered_where_no_thread_can_be_started, ONCE)
{
	long began;

	let_no_thread_start();
	ring_and_wait(RINGS, 5);
	began = now_ms();
	CHECK_INT(poll(NULL, 0, 600), 0);
	CHECK(now_ms() - began >= 600);
	all_were_answered(RINGS);
}

TEST(rings_amid_malloc_are_answered_where_no_thread_can_be_started, ONCE)
{
	let_no_thread_start();
	ring_and_wait(RINGS, 5);
	allocate_for(400);
	all_were_answered(RINGS);
}

static _Atomic bool may_fork;

static void *try_to_fork(void *unused)
{
	while (!may_fork)
		sched_yield();
	while (!over) {
		CHECK_INT(fork(), -1);
		CHECK_INT(errno, EAGAIN);
	}
	return unused;
}

/* A fork that fails takes the guard all the same, and then waits for malloc's lock. */
TEST(rings_amid_fork_and_malloc_are_answered_where_no_thread_can_be_started, ONCE)
{
	pthread_t forks;

	CHECK_INT(pthread_create(&forks, NULL, try_to_fork, NULL), 0);
	let_no_thread_start();
	may_fork = true;
	ring_and_wait(RINGS, 10);
	allocate_for(600);
	all_were_answered(RINGS);
	over = true;
	pthread_join(forks, NULL);
}
