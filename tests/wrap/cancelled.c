/* SPDX-License-Identifier: MIT */
/* pthread_cancel() of the thread that a ring is in, at each moment at which glibc does a part of it. */
#include "../support/api.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { SIGCANCEL = 32 };

/* ---- the threads that are cancelled ---- */

static struct target {
	pthread_t thread;
	_Atomic int tid;
	int pipe[2];
	sigset_t mask; /* of its cleanup */
} target;

static void note_mask(void *unused)
{
	(void)unused;
	pthread_sigmask(SIG_BLOCK, NULL, &target.mask);
}

static void *read_on(void *unused)
{
	char byte;

	(void)unused;
	target.tid = (int)syscall(SYS_gettid);
	pthread_cleanup_push(note_mask, NULL);
	for (;;)
		MUST(read(target.pipe[0], &byte, 1));
	pthread_cleanup_pop(0);
	return NULL;
}

static bool all_is_read(void)
{
	int left;

	MUST(ioctl(target.pipe[0], FIONREAD, &left));
	return !left;
}

/* It reads, and is rung by its number: then it is asked first. */
static void begin_target(void)
{
	MUST(pipe(target.pipe));
	CHECK_INT(pthread_create(&target.thread, NULL, read_on, NULL), 0);
	CHECK(AWAIT(sleeps(target.tid), 5000));
	ask("adopt %d", target.tid);
}

static void ends_cancelled(pthread_t thread)
{
	struct timespec until;
	void *result;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 5;
	CHECK_INT(pthread_timedjoin_np(thread, &result, &until), 0);
	CHECK(result == PTHREAD_CANCELED);
}

static void target_ends_by_it(void)
{
	ends_cancelled(target.thread);
	CHECK(!sigismember(&target.mask, SIGTERM));
	ask("adopt %d", getpid());
	CHECK(strstr(ask("status"), "result=ok"));
}

/* ---- the thread that cancels ---- */

/*
 * glibc marks a thread that waits in a cancellation point, and then sends it a signal. Here the kernel asks us before
 * that is sent. Between the two, another thread may run for as long as it is scheduled. The wrong code waits for this
 * signal where it does not come, or is ended by it where it must not be.
 */
static struct {
	pthread_t thread;
	_Atomic int listener;
	struct seccomp_notif held;
} canceller;

static void *cancel(void *unused)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_tgkill, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SIGCANCEL, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(*code), code};

	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	canceller.listener =
		MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
	CHECK_INT(pthread_cancel(target.thread), 0);
	return unused;
}

static void begin_cancel(void)
{
	struct pollfd p = {.events = POLLIN};

	canceller.listener = -1;
	CHECK_INT(pthread_create(&canceller.thread, NULL, cancel, NULL), 0);
	CHECK(AWAIT(canceller.listener >= 0, 5000));
	p.fd = canceller.listener;
	CHECK_INT(poll(&p, 1, 5000), 1);
	memset(&canceller.held, 0, sizeof(canceller.held));
	MUST(ioctl(canceller.listener, SECCOMP_IOCTL_NOTIF_RECV, &canceller.held));
}

static void end_cancel(void)
{
	struct seccomp_notif_resp go_on = {.id = canceller.held.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};

	MUST(ioctl(canceller.listener, SECCOMP_IOCTL_NOTIF_SEND, &go_on));
	CHECK_INT(pthread_join(canceller.thread, NULL), 0);
}

/* ---- one moment each ---- */

/* Its read has come back and waits for the signal, as each of libc's cancellation points would in the handler. */
TEST(a_thread_answers_that_waits_for_its_cancellation, ONCE)
{
	begin_target();
	begin_cancel();
	CHECK_INT(write(target.pipe[1], "x", 1), 1);
	CHECK(AWAIT(all_is_read() && sleeps(target.tid), 5000));
	CHECK(strstr(ask("status"), "result=ok"));
	end_cancel();
	target_ends_by_it();
}

TEST(a_cancellation_on_its_way_waits_for_the_answer, ONCE)
{
	begin_target();
	begin_cancel();
	CHECK(!strcmp(ask("call"), "ok"));
	end_cancel();
	CHECK(strstr(ask("status-on-it"), "result=ok"));
	target_ends_by_it();
}

TEST(a_cancellation_that_begins_in_the_middle_waits_for_the_answer, ONCE)
{
	begin_target();
	CHECK(!strcmp(ask("call"), "ok"));
	CHECK_INT(pthread_cancel(target.thread), 0);
	CHECK(strstr(ask("status-on-it"), "result=ok"));
	target_ends_by_it();
}

static bool read_one(const char *name, int id, int fd, void *unused)
{
	char byte;

	(void)name, (void)id, (void)fd, (void)unused;
	return read(target.pipe[0], &byte, 1) == 1;
}

static void *walk(void *unused)
{
	target.tid = (int)syscall(SYS_gettid);
	CHECK_INT(API(cpr_walk_fd)(read_one, NULL), 0);
	pause();
	return unused;
}

/* It has the table's lock, which no thread would get any more. */
TEST(a_thread_is_not_cancelled_in_its_walk, ONCE)
{
	int fd = MUST(open("/dev/null", O_RDONLY | O_CLOEXEC));

	MUST(pipe(target.pipe));
	MUST(API(cpr_save_fd)("a", 0, fd));
	CHECK_INT(pthread_create(&target.thread, NULL, walk, NULL), 0);
	CHECK(AWAIT(sleeps(target.tid), 5000));
	CHECK_INT(pthread_cancel(target.thread), 0);
	CHECK_INT(write(target.pipe[1], "x", 1), 1);
	ends_cancelled(target.thread);
	CHECK_INT(table_size(), 1);
}

/* ---- what comes of it ---- */

static bool may_be_cancelled(void)
{
	unsigned long blocked = ~0UL;
	char line[256];
	FILE *status = fopen("/proc/self/status", "re");

	while (status && fgets(line, sizeof(line), status))
		sscanf(line, "SigBlk: %lx", &blocked);
	fclose(status);
	return !(blocked >> (SIGCANCEL - 1) & 1);
}

/* The signal is blocked while a generation leaves. */
TEST(the_next_generation_may_be_cancelled, BOTH)
{
	CHECK(may_be_cancelled());
	if (generation() < 3)
		next_generation();
}

static void *sleep_on(void *unused)
{
	for (;;)
		pause();
	return unused;
}

/* By exec, this is the way through a task of its own. */
TEST(the_next_generation_of_a_program_of_threads_may_be_cancelled, BOTH)
{
	pthread_t thread;

	CHECK(may_be_cancelled());
	CHECK_INT(pthread_create(&thread, NULL, sleep_on, NULL), 0);
	if (generation() < 3)
		next_generation();
	CHECK_INT(pthread_cancel(thread), 0);
	ends_cancelled(thread);
}

/* ---- many moments ---- */

enum { NONCES = 32, STORM_MS = 2500, KINDS = 4, SPREAD_US = 60, RING_EVERY_NS = 10000 };

static struct {
	_Atomic int tids[KINDS];
	_Atomic bool over;
	sem_t never;
	int epfd, cancelled;
	uint64_t rings;
} storm;

static ssize_t wait_by(long kind)
{
	struct pollfd p = {target.pipe[0], POLLIN, 0};
	struct epoll_event event;

	switch (kind) {
	case 0:
		return read(target.pipe[0], (char[1]){0}, 1);
	case 1:
		return poll(&p, 1, -1);
	case 2:
		return epoll_wait(storm.epfd, &event, 1, -1);
	default:
		return sem_wait(&storm.never);
	}
}

static void *wait_on(void *kind)
{
	storm.tids[(long)kind] = (int)syscall(SYS_gettid);
	for (;;)
		wait_by((long)kind);
	return kind;
}

/*
 * No process listens for these: they are over soon, but for the system calls that it takes to see that. The nonce is
 * not a new one each time. The library remembers 64 callers, and under load so many would leave no place for the one
 * that listens.
 */
static void *ring_on(void *unused)
{
	siginfo_t info = {.si_code = SI_QUEUE};

	for (int i = 0; !storm.over; i = (i + 1) % KINDS) {
		info.si_value.sival_ptr = (void *)((++storm.rings % NONCES + 1) << 8 | 1);
		if (storm.tids[i])
			syscall(SYS_rt_tgsigqueueinfo, getpid(), storm.tids[i], SIGRTMAX - 5, &info);
		/* a thread that has the next one queued when it comes out of the handler comes to nothing else */
		nanosleep(&(struct timespec){0, RING_EVERY_NS}, NULL);
	}
	return unused;
}

static void is_cancelled(pthread_t thread)
{
	CHECK_INT(pthread_cancel(thread), 0);
	ends_cancelled(thread);
	storm.cancelled++;
}

static void start_and_cancel(unsigned *seed)
{
	pthread_t threads[KINDS];

	for (long i = 0; i < KINDS; i++)
		CHECK_INT(pthread_create(&threads[i], NULL, wait_on, (void *)i), 0);
	for (int i = 0; i < KINDS; i++) {
		while (!storm.tids[i])
			sched_yield();
		for (int us = rand_r(seed) % SPREAD_US; us-- > 0;)
			CHECK(write(target.pipe[1], "x", us % 8 == 0) >= 0);
	}
	for (int i = 0; i < KINDS; i++) {
		is_cancelled(threads[i]);
		storm.tids[i] = 0;
	}
}

TEST(threads_are_cancelled_in_a_storm_of_rings, ONCE)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	pthread_t ringer;
	unsigned seed = 1;

	MUST(pipe(target.pipe));
	MUST(sem_init(&storm.never, 0, 0));
	storm.epfd = MUST(epoll_create1(EPOLL_CLOEXEC));
	MUST(epoll_ctl(storm.epfd, EPOLL_CTL_ADD, target.pipe[0], &event));
	CHECK_INT(pthread_create(&ringer, NULL, ring_on, NULL), 0);
	CHECK(!strcmp(ask("rings 100 5"), "ok"));
	for (long until = now_ms() + STORM_MS; now_ms() < until || storm.cancelled <= 100;)
		start_and_cancel(&seed);
	storm.over = true;
	CHECK_INT(pthread_join(ringer, NULL), 0);
	CHECK_INT(atoi(ask("rung")), 100);
	CHECK(storm.cancelled > 100);
}
