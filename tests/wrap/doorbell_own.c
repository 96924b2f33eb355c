/* SPDX-License-Identifier: MIT */
/* A program that uses the doorbell's number itself gets its signals, as its flags say, and is rung all the same. */
#include "../support/api.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>

#define BELL_SIGNAL (SIGRTMAX - 5)

static void answers(void)
{
	CHECK(strstr(ask("status"), "result=ok"));
}

static struct seen {
	int runs, sig, code, value, pid, nested;
	bool on_stack, masked, self_masked, bell_open;
} seen;
static char stack_room[65536];

static void its_own(int sig, siginfo_t *info, void *context)
{
	sigset_t mask;
	char here;

	(void)context;
	seen.runs++;
	seen.sig = sig;
	seen.code = info->si_code;
	seen.value = info->si_value.sival_int;
	seen.pid = info->si_pid;
	seen.on_stack = &here > stack_room && &here < stack_room + sizeof(stack_room);
	syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
	seen.masked = sigismember(&mask, SIGUSR1) && !sigismember(&mask, SIGUSR2);
	seen.self_masked = sigismember(&mask, BELL_SIGNAL);
	errno = EDOM;
}

static void handle(int flags)
{
	struct sigaction mine = {.sa_sigaction = its_own, .sa_flags = SA_SIGINFO | flags};

	sigemptyset(&mine.sa_mask);
	sigaddset(&mine.sa_mask, SIGUSR1);
	MUST(sigaction(BELL_SIGNAL, &mine, NULL));
	seen = (struct seen){0};
}

TEST(a_program_that_uses_the_number_gets_its_signals, ONCE)
{
	union sigval value = {.sival_int = 77};

	handle(0);
	MUST(raise(BELL_SIGNAL));
	CHECK_INT(seen.runs, 1);
	CHECK(seen.sig == BELL_SIGNAL && seen.code == SI_TKILL && seen.pid == getpid());
	CHECK(seen.masked && seen.self_masked && !seen.on_stack);
	MUST(sigqueue(getpid(), BELL_SIGNAL, value));
	CHECK_INT(seen.runs, 2);
	CHECK(seen.code == SI_QUEUE && seen.value == 77);
	IN_CHILD {
		MUST(sigqueue(getppid(), BELL_SIGNAL, value));
		MUST(kill(getppid(), BELL_SIGNAL));
		handle(0);
		MUST(raise(BELL_SIGNAL));
		CHECK_INT(seen.runs, 1);
	}
	CHECK(AWAIT(seen.runs == 4, 5000));
	answers(); /* and its handler hears nothing of that */
	CHECK(!strcmp(ask("rings 3 5"), "ok"));
	CHECK_INT(atoi(ask("rung")), 3);
	CHECK_INT(seen.runs, 4);
}

TEST(a_programs_own_timer_of_the_number_ticks, ONCE)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = BELL_SIGNAL, .sigev_value.sival_int = 5};
	struct itimerspec soon = {.it_value.tv_nsec = 1000000};
	timer_t timer;

	handle(SA_RESTART);
	MUST(timer_create(CLOCK_MONOTONIC, &event, &timer));
	MUST(timer_settime(timer, 0, &soon, NULL));
	CHECK(AWAIT(seen.runs == 1, 5000));
	CHECK(seen.code == SI_TIMER && seen.value == 5);
}

TEST(its_flags_are_as_the_program_asked, ONCE)
{
	stack_t alternate = {.ss_sp = stack_room, .ss_size = sizeof(stack_room)};
	struct sigaction now;

	MUST(sigaltstack(&alternate, NULL));
	handle(0);
	MUST(raise(BELL_SIGNAL));
	CHECK(seen.runs == 1 && !seen.on_stack);
	handle(SA_ONSTACK | SA_NODEFER);
	MUST(raise(BELL_SIGNAL));
	CHECK(seen.runs == 1 && seen.on_stack && !seen.self_masked);
	handle((int)SA_RESETHAND);
	MUST(raise(BELL_SIGNAL));
	CHECK_INT(seen.runs, 1);
	MUST(sigaction(BELL_SIGNAL, NULL, &now));
	CHECK(now.sa_handler == SIG_DFL);
	answers();
}

static void *signal_it(void *thread)
{
	sleep_through(50);
	CHECK_INT(pthread_kill(*(pthread_t *)thread, BELL_SIGNAL), 0);
	return NULL;
}

/* Without SA_RESTART a read ends with EINTR, and with it the read goes on. */
TEST(a_read_ends_as_its_flags_say, ONCE)
{
	pthread_t self = pthread_self(), other;
	struct pollfd none;
	int ends[2];
	char byte;

	MUST(pipe(ends));
	none = (struct pollfd){ends[0], POLLIN, 0};
	handle(0);
	CHECK_INT(pthread_create(&other, NULL, signal_it, &self), 0);
	CHECK_FAILS(read(ends[0], &byte, 1), EINTR);
	pthread_join(other, NULL);
	CHECK_INT(pthread_create(&other, NULL, signal_it, &self), 0);
	CHECK_FAILS(poll(&none, 1, 10000), EINTR);
	pthread_join(other, NULL);
	CHECK_INT(seen.runs, 2);
}

static sigjmp_buf way_out;

static void jump(int sig)
{
	(void)sig;
	siglongjmp(way_out, 1);
}

TEST(its_handler_may_jump, ONCE)
{
	volatile int jumps = 0;

	CHECK(signal(BELL_SIGNAL, jump) == SIG_DFL);
	while (!sigsetjmp(way_out, 1) || jumps++ < 2)
		raise(BELL_SIGNAL);
	CHECK_INT(jumps, 3);
	answers();
}

/* libc and the kernel copy what they are given: it may stand at an address at which a struct may not. */
TEST(an_action_at_an_odd_address_is_taken, ONCE)
{
	struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		unsigned long mask;
	} kernels = {.handler = SIG_IGN}, before;
	struct sigaction libcs = {.sa_handler = SIG_IGN}, was;
	char odd[sizeof(libcs) + 1], old[sizeof(libcs) + 1];

	memcpy(odd + 1, &libcs, sizeof(libcs));
	MUST(sigaction(BELL_SIGNAL, (void *)(odd + 1), (void *)(old + 1)));
	memcpy(&was, old + 1, sizeof(was));
	CHECK(was.sa_handler == SIG_DFL);
	memcpy(odd + 1, &kernels, sizeof(kernels));
	MUST(syscall(SYS_rt_sigaction, BELL_SIGNAL, odd + 1, old + 1, 8));
	memcpy(&before, old + 1, sizeof(before));
	CHECK(before.handler == SIG_IGN);
	answers();
}
