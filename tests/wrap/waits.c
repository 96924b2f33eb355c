/* SPDX-License-Identifier: MIT */
/*
 * Waiting calls under a rain of status rings: no EINTR that is ours, the timeouts right, and the program's own signals
 * still seen.
 */
#include "../support/failing.h"
#include "../support/sockets.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/time.h>

enum { RINGS = 25, EVERY_MS = 10, TIMEOUT_MS = 400, LATE_MS = 350 };

static volatile sig_atomic_t alarms;

static void count_alarm(int sig)
{
	(void)sig;
	alarms++;
}

static void on_alarm(int flags)
{
	struct sigaction action = {.sa_handler = count_alarm, .sa_flags = flags};

	MUST(sigaction(SIGALRM, &action, NULL));
}

/* More than one: the first may come before the wait has begun, on a machine that has other things to do. */
static void alarms_soon(void)
{
	CHECK(!strcmp(ask("signal SIGALRM 5 250"), "ok"));
}

static struct timespec spec_of(int ms)
{
	return (struct timespec){ms / 1000, ms % 1000 * 1000000L};
}

/* One way to wait for `ms` (-1: for good) for fd to become readable: the call's result. */
typedef int waiter(int fd, int ms);

static int by_poll(int fd, int ms)
{
	struct pollfd one = {fd, POLLIN, 0};

	return poll(&one, 1, ms);
}

static int by_ppoll(int fd, int ms)
{
	struct pollfd one = {fd, POLLIN, 0};
	struct timespec timeout = spec_of(ms);
	sigset_t most;

	sigfillset(&most);
	sigdelset(&most, SIGALRM);
	return ppoll(&one, 1, ms < 0 ? NULL : &timeout, &most);
}

static int by_select(int fd, int ms)
{
	struct timeval timeout = {ms / 1000, ms % 1000 * 1000};
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fd, &set);
	return select(fd + 1, &set, NULL, NULL, ms < 0 ? NULL : &timeout);
}

static int by_pselect(int fd, int ms)
{
	struct timespec timeout = spec_of(ms);
	sigset_t most;
	fd_set set;

	sigfillset(&most);
	sigdelset(&most, SIGALRM);
	FD_ZERO(&set);
	FD_SET(fd, &set);
	return pselect(fd + 1, &set, NULL, NULL, ms < 0 ? NULL : &timeout, &most);
}

static int epoll_with(int fd)
{
	struct epoll_event event = {.events = EPOLLIN};
	int epfd = MUST(epoll_create1(EPOLL_CLOEXEC));

	MUST(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event));
	return epfd;
}

static int by_epoll_wait(int fd, int ms)
{
	struct epoll_event event;
	int epfd = epoll_with(fd), r = epoll_wait(epfd, &event, 1, ms);

	close(epfd);
	return r;
}

static int by_epoll_pwait(int fd, int ms)
{
	int epfd = epoll_with(fd), r;
	struct epoll_event event;
	sigset_t most;

	sigfillset(&most);
	sigdelset(&most, SIGALRM);
	r = epoll_pwait(epfd, &event, 1, ms, &most);
	close(epfd);
	return r;
}

static int by_epoll_pwait2(int fd, int ms)
{
	struct timespec timeout = spec_of(ms);
	struct epoll_event event;
	int epfd = epoll_with(fd), r = epoll_pwait2(epfd, &event, 1, ms < 0 ? NULL : &timeout, NULL);

	close(epfd);
	return r;
}

/* ---- by syscall(2), with the kernel's own mask ---- */

static int by_poll_number(int fd, int ms)
{
	struct pollfd one = {fd, POLLIN, 0};

	return (int)syscall(SYS_poll, &one, 1, ms);
}

static int by_ppoll_number(int fd, int ms)
{
	struct pollfd one = {fd, POLLIN, 0};
	struct timespec timeout = spec_of(ms);
	uint64_t most = ~(1ULL << (SIGALRM - 1));

	return (int)syscall(SYS_ppoll, &one, 1, ms < 0 ? NULL : &timeout, &most, sizeof(most));
}

static int by_pselect6(int fd, int ms)
{
	struct timespec timeout = spec_of(ms);
	uint64_t most = ~(1ULL << (SIGALRM - 1));
	struct {
		uint64_t *mask;
		size_t size;
	} last = {&most, sizeof(most)};
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fd, &set);
	return (int)syscall(SYS_pselect6, fd + 1, &set, NULL, NULL, ms < 0 ? NULL : &timeout, &last);
}

static int by_epoll_pwait_number(int fd, int ms)
{
	uint64_t most = ~(1ULL << (SIGALRM - 1));
	struct epoll_event event;
	int epfd = epoll_with(fd), r = (int)syscall(SYS_epoll_pwait, epfd, &event, 1, ms, &most, sizeof(most));

	close(epfd);
	return r;
}

static void begin_rings(void)
{
	CHECK(!strcmp(ask("rings %d %d", RINGS, EVERY_MS), "ok"));
}

static void end_rings(void)
{
	CHECK_INT(atoi(ask("rung")), RINGS);
}

/* What every one of them must do while the doorbell rings. */
static void waits_well(waiter *wait)
{
	int pipes[2];
	long began;

	MUST(pipe2(pipes, O_CLOEXEC));
	on_alarm(SA_RESTART); /* which does not reach these calls */
	begin_rings();
	began = now_ms();
	CHECK_INT(wait(pipes[0], TIMEOUT_MS), 0);
	CHECK(now_ms() - began >= TIMEOUT_MS - 1);
	CHECK(now_ms() - began < TIMEOUT_MS + LATE_MS);
	end_rings();

	begin_rings();
	alarms_soon();
	CHECK_FAILS(wait(pipes[0], -1), EINTR);
	CHECK(alarms > 0);
	write_text(pipes[1], "x");
	CHECK_INT(wait(pipes[0], -1), 1);
	end_rings();
	CHECK_INT(wait(pipes[0], 0), 1);
}

#define WAITS_WELL(name)                                                                                               \
	TEST(name##_waits_on_when_rung, ONCE)                                                                          \
	{                                                                                                              \
		waits_well(by_##name);                                                                                 \
	}

WAITS_WELL(poll)
WAITS_WELL(ppoll)
WAITS_WELL(select)
WAITS_WELL(pselect)
WAITS_WELL(epoll_wait)
WAITS_WELL(epoll_pwait)
WAITS_WELL(epoll_pwait2)
WAITS_WELL(poll_number)
WAITS_WELL(ppoll_number)
WAITS_WELL(pselect6)
WAITS_WELL(epoll_pwait_number)

/*
 * One alarm in `ms`: does the wait end by it? One that has not in a second has lost it, and a server would hang for
 * good.
 */
static bool alarm_ends(waiter *wait, int fd, int ms)
{
	struct itimerval once = {.it_value = {0, ms * 1000}};
	int before = alarms, r;

	setitimer(ITIMER_REAL, &once, NULL);
	r = wait(fd, 1000);
	CHECK_INT(alarms, before + 1);
	CHECK(r == 0 || errno == EINTR);
	return r < 0;
}

/*
 * Rings without a pause, which is some thousand times what there will ever be. One alarm may be lost: the
 * ring may come within the nanoseconds in which the alarm's handler returns. Nothing tells its EINTR from the ring's.
 */
static void alarms_amid_rings(waiter *const *waiters, int count, int least_ms)
{
	int pipes[2], lost = 0;

	MUST(pipe2(pipes, O_CLOEXEC));
	on_alarm(0);
	CHECK(!strcmp(ask("rings 600 0"), "ok"));
	for (long until = now_ms() + 1500, i = 0; now_ms() < until; i++)
		lost += !alarm_ends(waiters[i % count], pipes[0], least_ms + (int)(i % 5));
	ask("rung");
	CHECK(lost <= 1);
}

/* The signal comes while the doorbell is being answered: it must not be taken for the doorbell's. */
TEST(a_signal_beside_a_ring_is_not_lost, ONCE)
{
	static waiter *const waiters[] = {by_poll, by_select, by_epoll_wait};

	alarms_amid_rings(waiters, 3, 15); /* late enough that the wait has begun */
}

/* A program that blocks its signals but for the wait has no race of its own, whenever they come. */
TEST(a_signal_let_in_by_the_wait_is_not_lost, ONCE)
{
	static waiter *const waiters[] = {by_ppoll, by_pselect, by_epoll_pwait};
	sigset_t alarm_only;

	sigemptyset(&alarm_only);
	sigaddset(&alarm_only, SIGALRM);
	MUST(sigprocmask(SIG_BLOCK, &alarm_only, NULL));
	alarms_amid_rings(waiters, 3, 1);
}

/*
 * The program's handler interrupts by siglongjmp or by a flag; the doorbell's must do neither to a blocking read or
 * accept.
 */
TEST(blocking_reads_and_accepts_go_on, ONCE)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM), pipes[2], before;
	char byte;

	on_alarm(0);
	begin_rings();
	alarms_soon();
	MUST(pipe2(pipes, O_CLOEXEC));
	CHECK_FAILS(accept(fd, NULL, NULL), EINTR);
	before = alarms;
	CHECK(before > 0);
	CHECK_FAILS(read(pipes[0], &byte, 1), EINTR);
	CHECK(alarms > before);
	end_rings();
}

/* signal(7): a socket with a timeout says EINTR whatever SA_RESTART says. */
TEST(accept_with_a_timeout_is_not_ended_by_a_ring, ONCE)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	struct timeval timeout = {1, 0};

	MUST(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)));
	begin_rings();
	CHECK_FAILS(accept4(fd, NULL, NULL, SOCK_CLOEXEC), EAGAIN);
	end_rings();
}

TEST(sleeps_are_not_cut_short, ONCE)
{
	struct timespec ms400 = spec_of(TIMEOUT_MS), at;
	long began;

	begin_rings();
	began = now_ms();
	CHECK_INT(nanosleep(&ms400, NULL), 0);
	CHECK(now_ms() - began >= TIMEOUT_MS);
	end_rings();
	begin_rings();
	began = now_ms();
	CHECK_INT(clock_nanosleep(CLOCK_MONOTONIC, 0, &ms400, NULL), 0);
	CHECK(now_ms() - began >= TIMEOUT_MS);
	end_rings();
	begin_rings();
	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_sec++;
	CHECK_INT(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL), 0);
	end_rings();
	begin_rings();
	CHECK_INT(usleep(TIMEOUT_MS * 1000), 0);
	end_rings();
	begin_rings();
	CHECK_INT(sleep(1), 0);
	end_rings();
}

TEST(a_sleep_is_cut_short_by_the_programs_own_signal, ONCE)
{
	struct timespec left = {0};

	on_alarm(SA_RESTART);
	begin_rings();
	alarms_soon();
	CHECK_FAILS(nanosleep(&(struct timespec){10, 0}, &left), EINTR);
	CHECK(alarms > 0);
	CHECK(left.tv_sec >= 8 && left.tv_sec < 10);
	end_rings();
}

TEST(pause_is_not_ended_by_a_ring, ONCE)
{
	on_alarm(SA_RESTART);
	begin_rings();
	alarms_soon();
	CHECK_FAILS(pause(), EINTR);
	CHECK(alarms > 0);
	end_rings();
}

TEST(system_v_waits_are_not_ended_by_a_ring, ONCE)
{
	struct {
		long type;
		char text[8];
	} message;
	int queue = MUST(msgget(IPC_PRIVATE, 0600)), sems = MUST(semget(IPC_PRIVATE, 1, 0600));
	struct sembuf take = {0, -1, 0};
	bool received, gained;

	on_alarm(SA_RESTART);
	begin_rings();
	alarms_soon();
	received = msgrcv(queue, &message, sizeof(message.text), 0, 0) >= 0 || errno != EINTR || !alarms;
	end_rings();
	alarms = 0;
	begin_rings();
	alarms_soon();
	gained = semop(sems, &take, 1) == 0 || errno != EINTR || !alarms;
	end_rings();
	msgctl(queue, IPC_RMID, NULL);
	semctl(sems, 0, IPC_RMID);
	CHECK(!received);
	CHECK(!gained);
}

TEST(semaphores_and_conditions_go_on, ONCE)
{
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
	struct timespec until;
	sem_t sem;

	begin_rings();
	sem_init(&sem, 0, 0);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	CHECK_FAILS(sem_timedwait(&sem, &until), ETIMEDOUT);
	end_rings();
	begin_rings();
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	pthread_mutex_lock(&mutex);
	CHECK_INT(pthread_cond_timedwait(&cond, &mutex, &until), ETIMEDOUT);
	end_rings();
}

static void *be_called_off(void *over)
{
	restart_is_called_off(busy_program());
	atomic_store((atomic_bool *)over, true);
	return NULL;
}

/* How often another thread has taken this one's processor. */
static long preempted(void)
{
	struct rusage usage;

	MUST(getrusage(RUSAGE_THREAD, &usage));
	return usage.ru_nivcsw;
}

/*
 * Does an alarm in `us` end a poll()? One that comes before poll() is called ends none: the processor may be taken from
 * this thread in that moment for longer than the alarm takes, and then nothing is found out.
 * Many descriptors make the time between two sleeps of a drain's long.
 */
static bool alarm_ends_poll(int fd, int us)
{
	enum { MANY = 1000 };
	struct itimerval once = {.it_value = {0, us}};
	struct pollfd many[MANY];
	int before = alarms;
	long switches;

	for (int i = 0; i < MANY; i++)
		many[i] = (struct pollfd){fd, POLLIN, 0};
	switches = preempted();
	setitimer(ITIMER_REAL, &once, NULL);
	return alarms != before || poll(many, MANY, 200) < 0 || preempted() != switches;
}

/* A drain's poll() sleeps 10 ms at a time. The alarms come about when it wakes. */
TEST(a_signal_between_two_looks_of_a_drain_is_not_lost, ONCE, "WARNS=1;CPR_DRAIN=2")
{
	int listener = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM), pipes[2], slow, lost = 0;
	atomic_bool over = false;
	sigset_t alarm_only;
	char request[512];
	pthread_t thread;

	MUST(pipe2(pipes, O_CLOEXEC));
	on_alarm(0);
	CHECK_INT(atoi(ask("connect tcp 127.0.0.1 %d", port(0))), 0);
	slow = MUST(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
	CHECK(!strcmp(ask("request 0 /"), "ok"));
	CHECK(read(slow, request, sizeof(request)) > 0); /* and it is not answered */
	sigemptyset(&alarm_only);
	sigaddset(&alarm_only, SIGALRM);
	MUST(sigprocmask(SIG_BLOCK, &alarm_only, NULL));
	CHECK_INT(pthread_create(&thread, NULL, be_called_off, &over), 0);
	MUST(sigprocmask(SIG_UNBLOCK, &alarm_only, NULL));
	for (int i = 0; !atomic_load(&over); i++)
		lost += !alarm_ends_poll(pipes[0], 10000 + i % 30 * 20);
	CHECK_INT(pthread_join(thread, NULL), 0);
	CHECK_INT(lost, 0);
}
