/* SPDX-License-Identifier: MIT */
/* Which waits of a first generation show its supervisor that it is ready, before it has bound anything and after. */
#include "../support/sockets.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/timerfd.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#define SUPERVISED "CPR_SUPERVISOR=1:1"

enum {
	PATIENCE_MS = 10000,
	LOOKS_MS = 300, /* after half a second, what waits on is taken for a worker */
	REST_MS = 500,
	LIMIT_MS = 2000, /* then it is taken for ready, whatever it waits for */
	LATE_MS = LIMIT_MS - REST_MS,
};

static long started;

__attribute__((constructor)) static void note_start(void)
{
	started = now_ms();
}

static bool is_ready(void)
{
	const char *status = ask("status");

	CHECK(strstr(status, "arriving="));
	return strstr(status, "arriving=0");
}

/* A wait for input on these, as a program does it before it binds. */
struct question {
	bool (*waits)(const int *fds, int n);
	int fds[4], n;
	_Atomic int tid;
	_Atomic bool is_answered;
};

static bool by_poll(const int *fds, int n)
{
	struct pollfd all[4];

	for (int i = 0; i < n; i++)
		all[i] = (struct pollfd){fds[i], POLLIN, 0};
	return poll(all, (nfds_t)n, PATIENCE_MS) > 0;
}

static fd_set set_of(const int *fds, int n)
{
	fd_set set;

	FD_ZERO(&set);
	for (int i = 0; i < n; i++)
		FD_SET(fds[i], &set);
	return set;
}

static bool by_select(const int *fds, int n)
{
	struct timeval time = {PATIENCE_MS / 1000, 0};
	fd_set set = set_of(fds, n);

	return select(FD_SETSIZE, &set, NULL, NULL, &time) > 0;
}

static bool by_select_number(const int *fds, int n)
{
	struct timespec time = {PATIENCE_MS / 1000, 0};
	fd_set set = set_of(fds, n);

	return syscall(SYS_pselect6, FD_SETSIZE, &set, NULL, NULL, &time, NULL) > 0;
}

static int epoll_of(const int *fds, int n)
{
	struct epoll_event event = {.events = EPOLLIN};
	int set = MUST(epoll_create1(EPOLL_CLOEXEC));

	for (int i = 0; i < n; i++)
		MUST(epoll_ctl(set, EPOLL_CTL_ADD, fds[i], &event));
	return set;
}

static bool by_epoll(const int *fds, int n)
{
	struct epoll_event event;

	return epoll_wait(epoll_of(fds, n), &event, 1, PATIENCE_MS) > 0;
}

static bool by_epoll_pwait2(const int *fds, int n)
{
	struct timespec time = {PATIENCE_MS / 1000, 0};
	struct epoll_event event;

	return epoll_pwait2(epoll_of(fds, n), &event, 1, &time, NULL) > 0;
}

static bool by_wait(const int *fds, int n)
{
	(void)fds, (void)n;
	return wait(NULL) > 0;
}

static void *asks(void *arg)
{
	struct question *q = arg;

	q->tid = gettid();
	q->is_answered = q->waits(q->fds, q->n);
	return NULL;
}

static pthread_t begin(struct question *q)
{
	pthread_t thread;

	CHECK(!pthread_create(&thread, NULL, asks, q));
	CHECK(AWAIT(sleeps(q->tid), PATIENCE_MS));
	return thread;
}

static pthread_t begin_and_shows_nothing(struct question *q)
{
	long began = now_ms();
	pthread_t thread = begin(q);
	bool ready;

	do
		ready = is_ready();
	while (!ready && now_ms() - began < LOOKS_MS);
	/* on a busy machine the first look may come late */
	CHECK(!ready || now_ms() - began >= REST_MS || now_ms() - started >= LATE_MS);
	return thread;
}

/* After its answer the program binds, and waits for clients: then it is ready. */
static void serves(pthread_t thread, struct question *q)
{
	struct question clients = {by_epoll, {0}, 1, 0, false};

	CHECK(!pthread_join(thread, NULL));
	CHECK(q->is_answered);
	clients.fds[0] = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	thread = begin(&clients);
	CHECK(AWAIT(is_ready(), LIMIT_MS));
	CHECK(is_connection(ask("connect tcp 127.0.0.1 %d", port(0))));
	CHECK(!pthread_join(thread, NULL));
	CHECK(clients.is_answered);
}

/* The number that the server knows it by; the socket is the first that is waited on. */
static int connect_to_server(struct question *q, const char *path)
{
	int at = atoi(path ? ask("server %s", path) : ask("server"));

	q->fds[0] = MUST(try_connect(path ? local(path) : inet4("127.0.0.1", at), SOCK_STREAM));
	return atoi(ask("accept"));
}

static void asks_a_server(struct question *q, const char *path)
{
	int peer = connect_to_server(q, path);
	pthread_t thread = begin_and_shows_nothing(q);

	CHECK(!strcmp(ask("send %d x", peer), "ok"));
	serves(thread, q);
}

TEST(a_wait_for_an_answer_by_poll_is_not_ready, ONCE, SUPERVISED)
{
	asks_a_server(&(struct question){.waits = by_poll, .n = 1}, NULL);
}

TEST(a_wait_for_an_answer_by_select_is_not_ready, ONCE, SUPERVISED)
{
	asks_a_server(&(struct question){.waits = by_select, .n = 1}, NULL);
}

TEST(a_wait_for_an_answer_by_number_is_not_ready, ONCE, SUPERVISED)
{
	asks_a_server(&(struct question){.waits = by_select_number, .n = 1}, NULL);
}

/* The look-up of a user's name under DynamicUser= is that, with a timer for its patience. */
TEST(a_wait_for_an_answer_by_epoll_is_not_ready, ONCE, SUPERVISED)
{
	asks_a_server(&(struct question){.waits = by_epoll,
					 .fds = {0, MUST(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC))},
					 .n = 2},
		      in_room("server"));
}

/* As an event loop does, which is woken by its own threads. */
TEST(a_wait_for_an_answer_beside_a_wake_up_is_not_ready, ONCE, SUPERVISED)
{
	struct question q = {.waits = by_epoll_pwait2, .n = 4};
	int ends[2];

	MUST(pipe2(ends, O_CLOEXEC));
	q.fds[1] = ends[0];
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
	q.fds[2] = ends[0];
	q.fds[3] = MUST(eventfd(0, EFD_CLOEXEC));
	asks_a_server(&q, NULL);
}

/* Its server has no room in its queue. */
TEST(a_wait_for_a_connection_is_not_ready, ONCE, SUPERVISED)
{
	int at = atoi(ask("server-of-one")), one = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	static struct question q = {.waits = by_epoll, .n = 1};
	struct address a = inet4("127.0.0.1", at);

	q.fds[0] = one;
	MUST(try_connect(a, SOCK_STREAM));
	CHECK_FAILS(connect(one, &a.any, a.len), EINPROGRESS);
	begin_and_shows_nothing(&q);
}

/* node reads its program so. */
TEST(a_wait_for_its_own_thread_is_not_ready, ONCE, SUPERVISED)
{
	struct question q = {.waits = by_epoll, .fds = {MUST(eventfd(0, EFD_CLOEXEC))}, .n = 1};
	pthread_t thread = begin_and_shows_nothing(&q);

	MUST(eventfd_write(q.fds[0], 1));
	serves(thread, &q);
}

/* As a script does, which then starts its server. */
TEST(a_wait_for_a_command_is_not_ready, ONCE, SUPERVISED)
{
	struct question q = {.waits = by_wait};
	pthread_t thread;
	int ends[2];
	char byte;

	MUST(pipe2(ends, O_CLOEXEC));
	IN_CHILD {
		close(ends[1]);
		CHECK_INT(read(ends[0], &byte, 1), 0);
	}
	thread = begin_and_shows_nothing(&q);
	MUST(close(ends[1]));
	serves(thread, &q);
}

/* ---- what is ready at once, or soon ---- */

/* No wait is long, so the program does not rest: what makes it ready is what it waits for. */
static void *never_rests(void *arg)
{
	for (;;)
		poll(NULL, 0, 20);
	return arg;
}

static void is_ready_at_once(struct question *q)
{
	begin(q);
	CHECK(AWAIT(is_ready(), PATIENCE_MS));
	CHECK(now_ms() - started < LATE_MS);
}

TEST(a_wait_for_signals_is_ready, ONCE, SUPERVISED)
{
	static struct question q = {.waits = by_epoll, .n = 1};
	pthread_t thread;
	sigset_t set;

	CHECK(!pthread_create(&thread, NULL, never_rests, NULL));
	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	q.fds[0] = MUST(signalfd(-1, &set, SFD_CLOEXEC));
	is_ready_at_once(&q);
}

/* A parent's pipe, as a worker has it. */
TEST(a_wait_for_words_of_another_process_is_ready, ONCE, SUPERVISED)
{
	static struct question q = {.waits = by_epoll, .n = 1};
	pthread_t thread;
	int ends[2];

	MUST(pipe2(ends, O_CLOEXEC));
	q.fds[0] = ends[0];
	IN_CHILD {
		pause();
	}
	MUST(close(ends[1]));
	CHECK(!pthread_create(&thread, NULL, never_rests, NULL));
	is_ready_at_once(&q);
}

/* The listener is another thread's. */
TEST(a_wait_for_its_own_thread_beside_a_listener_is_ready, ONCE, SUPERVISED)
{
	static struct question q = {.waits = by_epoll, .n = 1};

	q.fds[0] = MUST(eventfd(0, EFD_CLOEXEC));
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	is_ready_at_once(&q);
}

/* Its timer wakes it some day. */
TEST(a_worker_that_waits_on_is_ready_soon, ONCE, SUPERVISED)
{
	static struct question q = {.waits = by_epoll, .n = 1};

	q.fds[0] = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
	begin(&q);
	CHECK(AWAIT(is_ready(), PATIENCE_MS));
	CHECK(now_ms() - started < LIMIT_MS);
}

/* One thread waits for good, and another one works: as node does, which has such a thread from its start on. */
TEST(a_wait_beside_a_thread_at_work_is_no_rest, ONCE, SUPERVISED)
{
	static struct question q = {.waits = by_epoll, .n = 1};
	bool ready;

	q.fds[0] = MUST(eventfd(0, EFD_CLOEXEC));
	begin(&q);
	while (now_ms() - started < LATE_MS) {
		for (volatile int i = 0; i < 10000000; i = i + 1)
			;
		ready = is_ready();
		CHECK(!ready || now_ms() - started >= LATE_MS);
	}
}
