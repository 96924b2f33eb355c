/* SPDX-License-Identifier: MIT */
/* The doorbell cannot be lost: whatever a program does to all signals, it answers, and the program does not notice. */
/* All of signal(2)'s family is stood in front of, the deprecated ones too. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#include "../support/api.h"
#include "../support/sockets.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

#define BELL_SIGNAL (SIGRTMAX - 5)

static void answers(void)
{
	CHECK(strstr(ask("status"), "result=ok"));
}

__sighandler_t bsd_signal(int sig, __sighandler_t handler); /* in libc, and in no header of today */

static void must_not_run(int sig)
{
	(void)sig;
	CHECK(!"the program's handler ran");
}

TEST(sigaction_of_the_doorbell_pretends, ONCE)
{
	struct sigaction mine = {.sa_handler = must_not_run, .sa_flags = SA_NODEFER}, old;

	MUST(sigaction(BELL_SIGNAL, NULL, &old));
	CHECK(old.sa_handler == SIG_DFL);
	MUST(sigaction(BELL_SIGNAL, &mine, &old));
	CHECK(old.sa_handler == SIG_DFL);
	MUST(sigaction(BELL_SIGNAL, NULL, &old));
	CHECK(old.sa_handler == must_not_run && old.sa_flags == SA_NODEFER);
	answers();
}

TEST(signal_of_the_doorbell_pretends, ONCE)
{
	CHECK(signal(BELL_SIGNAL, must_not_run) == SIG_DFL);
	CHECK(signal(BELL_SIGNAL, SIG_IGN) == must_not_run);
	answers();
	CHECK(sigset(BELL_SIGNAL, SIG_DFL) == SIG_IGN);
	CHECK(bsd_signal(BELL_SIGNAL, must_not_run) == SIG_DFL);
	CHECK(ssignal(BELL_SIGNAL, must_not_run) == must_not_run);
	answers();
	MUST(sigignore(BELL_SIGNAL));
	MUST(siginterrupt(BELL_SIGNAL, 1));
	MUST(sighold(BELL_SIGNAL));
	answers();
}

TEST(every_signals_action_replaced_by_a_loop, BELL)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	struct sigaction action = {.sa_handler = SIG_DFL};

	for (int sig = 1; sig < _NSIG; sig++)
		sigaction(sig, &action, NULL);
	for (int sig = 1; sig < _NSIG; sig++)
		signal(sig, SIG_IGN);
	answers();
	if (generation() == 1) {
		put("inode", inode_of(fd));
		next_generation();
	}
	CHECK_INT(inode_of(fd), get("inode"));
}

TEST(sigaction_by_number_pretends, ONCE)
{
	struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		uint64_t mask;
	} ignore = {.handler = SIG_IGN};

	CHECK_INT(syscall(SYS_rt_sigaction, BELL_SIGNAL, &ignore, NULL, 8), 0);
	answers();
}

TEST(all_signals_blocked_with_sigprocmask, BELL)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	sigset_t all, now;

	sigfillset(&all);
	MUST(sigprocmask(SIG_SETMASK, &all, NULL));
	MUST(sigprocmask(SIG_BLOCK, &all, NULL));
	MUST(sigprocmask(SIG_BLOCK, NULL, &now));
	CHECK(sigismember(&now, SIGTERM));
	answers();
	if (generation() == 1) {
		put("inode", inode_of(fd));
		next_generation();
	}
	CHECK_INT(inode_of(fd), get("inode"));
	if (generation() == 2)
		next_generation();
}

TEST(all_signals_blocked_by_number, ONCE)
{
	uint64_t all = ~0ULL;

	CHECK_INT(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8), 0);
	answers();
}

static pthread_barrier_t ready;

static void *block_all(void *arg)
{
	sigset_t all;

	sigfillset(&all);
	CHECK_INT(pthread_sigmask(SIG_SETMASK, &all, NULL), 0);
	pthread_barrier_wait(&ready);
	for (;;)
		poll(NULL, 0, -1);
	return arg;
}

TEST(all_signals_blocked_in_every_thread, BELL)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	pthread_t thread;
	sigset_t all;

	pthread_barrier_init(&ready, NULL, 5);
	sigfillset(&all);
	CHECK_INT(pthread_sigmask(SIG_SETMASK, &all, NULL), 0);
	for (int i = 0; i < 4; i++)
		CHECK_INT(pthread_create(&thread, NULL, block_all, NULL), 0);
	pthread_barrier_wait(&ready);
	answers();
	if (generation() == 1) {
		put("inode", inode_of(fd));
		next_generation();
	}
	CHECK_INT(inode_of(fd), get("inode"));
}

/* pthread_attr_setsigmask_np is set inside libc, past every wrapper; the main thread still hears. */
TEST(a_thread_made_with_a_full_mask, ONCE)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all;

	pthread_barrier_init(&ready, NULL, 2);
	sigfillset(&all);
	pthread_attr_init(&attr);
	CHECK_INT(pthread_attr_setsigmask_np(&attr, &all), 0);
	CHECK_INT(pthread_create(&thread, &attr, block_all, NULL), 0);
	pthread_barrier_wait(&ready);
	answers();
}

/* A handler that runs with everything blocked, for as long as the program lives. */
static void live_here(int sig)
{
	(void)sig;
	answers();
	say("end\n");
	hear();
	_exit(0);
}

TEST(a_program_that_lives_in_its_handler, ONCE)
{
	struct sigaction action = {.sa_handler = live_here};

	sigfillset(&action.sa_mask);
	MUST(sigaction(SIGUSR1, &action, NULL));
	raise(SIGUSR1);
	CHECK(!"raise came back");
}

static volatile sig_atomic_t alarms;

static void count_alarm(int sig)
{
	(void)sig;
	alarms++;
}

/*
 * Status rings from now on, and one SIGALRM of the program's own at the end, blocked until it is waited for. Only that
 * SIGALRM may be seen.
 */
static void rings_then_alarm(void)
{
	struct sigaction action = {.sa_handler = count_alarm};
	sigset_t alarm_only;

	sigemptyset(&alarm_only);
	sigaddset(&alarm_only, SIGALRM);
	MUST(sigprocmask(SIG_BLOCK, &alarm_only, NULL));
	MUST(sigaction(SIGALRM, &action, NULL));
	CHECK(!strcmp(ask("rings 10 5"), "ok"));
	CHECK(!strcmp(ask("signal SIGALRM 1 300"), "ok"));
}

static void all_were_answered(void)
{
	CHECK_INT(atoi(ask("rung")), 10);
}

TEST(sigsuspend_with_a_full_mask_is_rung, ONCE)
{
	sigset_t all;

	rings_then_alarm();
	sigfillset(&all);
	sigdelset(&all, SIGALRM);
	CHECK_FAILS(sigsuspend(&all), EINTR);
	CHECK_INT(alarms, 1);
	all_were_answered();
}

TEST(sigsuspend_keeps_its_mask_when_rung, ONCE)
{
	struct sigaction action = {.sa_handler = must_not_run};
	sigset_t mask;

	MUST(sigaction(SIGUSR1, &action, NULL));
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	MUST(sigprocmask(SIG_BLOCK, &mask, NULL));
	raise(SIGUSR1); /* stays pending */
	rings_then_alarm();
	CHECK_FAILS(sigsuspend(&mask), EINTR);
	CHECK_INT(alarms, 1);
	all_were_answered();
}

TEST(signalfd_of_everything_is_rung, ONCE)
{
	struct signalfd_siginfo info;
	sigset_t all;
	int fd;

	sigfillset(&all);
	MUST(sigprocmask(SIG_BLOCK, &all, NULL));
	fd = MUST(signalfd(-1, &all, SFD_CLOEXEC));
	rings_then_alarm();
	CHECK_INT(read(fd, &info, sizeof(info)), sizeof(info));
	CHECK_INT(info.ssi_signo, SIGALRM);
	all_were_answered();
}

TEST(sigwait_for_everything_is_rung, ONCE)
{
	sigset_t all;
	int sig;

	sigfillset(&all);
	MUST(sigprocmask(SIG_BLOCK, &all, NULL));
	rings_then_alarm();
	CHECK_INT(sigwait(&all, &sig), 0);
	CHECK_INT(sig, SIGALRM);
	all_were_answered();
}

TEST(sigwaitinfo_for_everything_is_rung, ONCE)
{
	sigset_t all;
	siginfo_t info;

	sigfillset(&all);
	MUST(sigprocmask(SIG_BLOCK, &all, NULL));
	rings_then_alarm();
	CHECK_INT(sigwaitinfo(&all, &info), SIGALRM);
	all_were_answered();
}

TEST(sigtimedwait_for_everything_keeps_its_time, ONCE)
{
	sigset_t all;
	siginfo_t info;
	long began;

	sigfillset(&all);
	MUST(sigprocmask(SIG_BLOCK, &all, NULL));
	CHECK(!strcmp(ask("rings 20 50"), "ok"));
	began = now_ms();
	CHECK_FAILS(sigtimedwait(&all, &info, &(struct timespec){0, 400000000}), EAGAIN);
	CHECK(now_ms() - began >= 395);
	CHECK(now_ms() - began < 800); /* the rings go on for a second */
	CHECK_INT(atoi(ask("rung")), 20);
}

/* A signal stack of the least size that is allowed: the handler's needs are not the program's. */
TEST(rung_on_a_small_signal_stack, ONCE)
{
	stack_t small = {.ss_size = (size_t)sysconf(_SC_SIGSTKSZ)};

	small.ss_sp = malloc(small.ss_size);
	MUST(sigaltstack(&small, NULL));
	for (int i = 0; i < 10; i++)
		answers();
}

TEST(errno_is_not_changed_by_a_ring, ONCE)
{
	CHECK(!strcmp(ask("rings 50 2"), "ok"));
	for (long until = now_ms() + 300; now_ms() < until;) {
		errno = 4242;
		for (volatile int i = 0; i < 100000; i++)
			;
		CHECK_INT(errno, 4242);
	}
	CHECK_INT(atoi(ask("rung")), 50);
}

/* Three rings that must be answered at once, and then an alarm that ends the waiting. */
static void rung_while_blocked(void)
{
	struct sigaction action = {.sa_handler = count_alarm};

	MUST(mkfifo(in_room("fifo"), 0600));
	MUST(sigaction(SIGALRM, &action, NULL));
	CHECK(!strcmp(ask("rings 3 5 0.5"), "ok"));
	CHECK(!strcmp(ask("signal SIGALRM 3 1600"), "ok"));
}

/* open() of a FIFO waits for its other end, and a daemon that takes commands by one spends its life there. */
TEST(a_blocked_open_is_rung, ONCE)
{
	int fd;

	rung_while_blocked();
	CHECK_FAILS(open(in_room("fifo"), O_RDONLY | O_CLOEXEC), EINTR);
	CHECK(alarms > 0);
	CHECK_INT(atoi(ask("rung")), 3);
	fd = MUST(open(in_room("fifo"), O_RDWR | O_CLOEXEC));
	CHECK(in_table(fd));
}

TEST(a_blocked_fopen_is_rung, ONCE)
{
	rung_while_blocked();
	CHECK(!fopen(in_room("fifo"), "re"));
	CHECK_INT(atoi(ask("rung")), 3);
}

static sigjmp_buf out;

static void jump_out(int sig)
{
	siglongjmp(out, sig);
}

/* The old way to give up after a while. */
TEST(a_jump_out_of_a_blocked_open_leaves_the_doorbell, ONCE)
{
	MUST(mkfifo(in_room("fifo"), 0600));
	signal(SIGALRM, jump_out);
	if (!sigsetjmp(out, 1)) {
		CHECK(!strcmp(ask("signal SIGALRM 1 200"), "ok"));
		open(in_room("fifo"), O_RDONLY | O_CLOEXEC);
		CHECK(!"open came back");
	}
	CHECK(!strcmp(ask("rings 3 5"), "ok"));
	CHECK_INT(atoi(ask("rung")), 3);
}

/* A bad ring does nothing, whichever process sends it: the signal alone, by kill, by a value without a listener. */
TEST(a_forged_ring_does_nothing, ONCE)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	union sigval value = {.sival_ptr = (void *)0x1234};

	for (int i = 0; i < 100; i++) {
		MUST(kill(getpid(), BELL_SIGNAL));
		MUST(raise(BELL_SIGNAL));
		MUST(sigqueue(getpid(), BELL_SIGNAL, value));
	}
	CHECK_INT(generation(), 1);
	CHECK(in_table(fd));
	answers();
}
