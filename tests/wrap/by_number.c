/* SPDX-License-Identifier: MIT */
/* syscall(2): what the kernel alone does there stays as it is, and a ring ends no wait. */
#include "../support/sockets.h"

#include <linux/aio_abi.h>
#include <signal.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

enum { RINGS = 15, EVERY_MS = 10, TIMEOUT_MS = 400, LATE_MS = 350 };

static volatile sig_atomic_t alarms;

static void count_alarm(int sig)
{
	(void)sig;
	alarms++;
}

static void alarm_in(int ms)
{
	struct sigaction action = {.sa_handler = count_alarm};

	MUST(sigaction(SIGALRM, &action, NULL));
	MUST(setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {0, ms * 1000}}, NULL));
}

static long left_ms(const struct timespec *timeout)
{
	return timeout->tv_sec * 1000 + timeout->tv_nsec / 1000000;
}

/* ---- the rest of the time ---- */

TEST(ppoll_by_number_leaves_the_rest_of_its_time, ONCE)
{
	struct timespec timeout = {5, 0};

	alarm_in(60);
	CHECK_FAILS(syscall(SYS_ppoll, NULL, 0, &timeout, NULL, 8), EINTR);
	CHECK(left_ms(&timeout) < 4990 && left_ms(&timeout) > 2000);
}

TEST(pselect6_by_number_leaves_the_rest_of_its_time, ONCE)
{
	struct timespec timeout = {5, 0};

	alarm_in(60);
	CHECK_FAILS(syscall(SYS_pselect6, 0, NULL, NULL, NULL, &timeout, NULL), EINTR);
	CHECK(left_ms(&timeout) < 4990 && left_ms(&timeout) > 2000);
}

TEST(a_constant_timeout_is_no_error_by_number, ONCE)
{
	static const struct timespec timeout = {0, 10000000};

	CHECK_INT(syscall(SYS_ppoll, NULL, 0, &timeout, NULL, 8), 0);
	CHECK_INT(syscall(SYS_pselect6, 0, NULL, NULL, NULL, &timeout, NULL), 0);
}

/* ---- under rings ---- */

typedef long waiter(struct timespec *timeout);

static long by_ppoll(struct timespec *timeout)
{
	return syscall(SYS_ppoll, NULL, 0, timeout, NULL, 8);
}

static long by_pselect6(struct timespec *timeout)
{
	return syscall(SYS_pselect6, 0, NULL, NULL, NULL, timeout, NULL);
}

static long by_nanosleep(struct timespec *timeout)
{
	return syscall(SYS_nanosleep, timeout, NULL);
}

static long by_clock_nanosleep(struct timespec *timeout)
{
	return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, timeout, NULL);
}

static long by_rt_sigtimedwait(struct timespec *timeout)
{
	uint64_t all = ~0ULL;

	return syscall(SYS_rt_sigtimedwait, &all, NULL, timeout, 8) < 0 && errno == EAGAIN ? 0 : -1;
}

static long by_io_getevents(struct timespec *timeout)
{
	aio_context_t context = 0;
	struct io_event event;
	long r;

	MUST(syscall(SYS_io_setup, 1, &context));
	r = syscall(SYS_io_getevents, context, 1, 1, &event, timeout);
	MUST(syscall(SYS_io_destroy, context));
	return r;
}

static void waits_on(waiter *wait)
{
	struct timespec timeout = {0, TIMEOUT_MS * 1000000L};
	long began;

	CHECK(!strcmp(ask("rings %d %d", RINGS, EVERY_MS), "ok"));
	began = now_ms();
	CHECK_INT(wait(&timeout), 0);
	CHECK(now_ms() - began >= TIMEOUT_MS - 1);
	CHECK(now_ms() - began < TIMEOUT_MS + LATE_MS);
	CHECK_INT(atoi(ask("rung")), RINGS);
}

#define WAITS_ON(name)                                                                                                 \
	TEST(name##_by_number_waits_on_when_rung, ONCE)                                                                \
	{                                                                                                              \
		waits_on(by_##name);                                                                                   \
	}

WAITS_ON(ppoll)
WAITS_ON(pselect6)
WAITS_ON(nanosleep)
WAITS_ON(clock_nanosleep)
WAITS_ON(rt_sigtimedwait)
WAITS_ON(io_getevents)

/* ---- io_uring ---- */

TEST(io_uring_is_denied, ONCE)
{
	char parameters[256] = {0};

	CHECK_FAILS(syscall(SYS_io_uring_setup, 1, parameters), ENOSYS);
}

TEST(io_uring_is_left_where_it_is_allowed, ONCE, "CPR_IO_URING=allow")
{
	long (*of_libc)(long, ...) = (long (*)(long, ...))dlsym(dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD), "syscall");
	char parameters[256] = {0};
	int wanted;

	/* no entries: EINVAL, if the kernel has rings */
	CHECK(of_libc && of_libc(SYS_io_uring_setup, 0, parameters) < 0);
	wanted = errno;
	CHECK_FAILS(syscall(SYS_io_uring_setup, 0, parameters), wanted);
}
