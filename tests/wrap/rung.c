/* SPDX-License-Identifier: MIT */
/* What rings leave as it is: the time limits of sockets, what a call says of its failure, and the end of a thread. */
#include "../support/failing.h"
#include "../support/sockets.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { LIMIT_MS = 200, LATE_MS = 300, MANY = 80, EVERY_MS = 10 }; /* the rings go on for four times the limit */

static void begin_rings(int count, int every_ms)
{
	CHECK(!strcmp(ask("rings %d %d", count, every_ms), "ok"));
}

/* Waits for the last. (On a busy machine a ringing process may be late with its word, and is let go.) */
static void end_rings(void)
{
	CHECK(atoi(ask("rung")) > 0);
}

static void limit(int fd, int option, long ms)
{
	struct timeval limit = {ms / 1000, ms % 1000 * 1000};

	MUST(setsockopt(fd, SOL_SOCKET, option, &limit, sizeof(limit)));
}

/* ---- SO_RCVTIMEO ---- */

/* A call that is cut short is made again with its whole limit: that begins once, or at the most twice. */
static void is_ended_by_its_limit(int fd, ssize_t (*take)(int fd))
{
	long began;

	limit(fd, SO_RCVTIMEO, LIMIT_MS);
	begin_rings(MANY, EVERY_MS);
	began = now_ms();
	CHECK_FAILS(take(fd), EAGAIN);
	CHECK(now_ms() - began >= LIMIT_MS - 10); /* the kernel counts in ticks */
	CHECK(now_ms() - began < 2 * LIMIT_MS + LATE_MS);
	end_rings();
}

static ssize_t by_recv(int fd)
{
	return recv(fd, (char[16]){0}, 16, 0);
}

static ssize_t by_read(int fd)
{
	return read(fd, (char[16]){0}, 16);
}

static ssize_t by_recvmsg(int fd)
{
	struct msghdr message = {.msg_iov = &(struct iovec){(char[16]){0}, 16}, .msg_iovlen = 1};

	return recvmsg(fd, &message, 0);
}

static ssize_t by_accept(int fd)
{
	return accept4(fd, NULL, NULL, SOCK_CLOEXEC);
}

static int connection(void)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);

	CHECK(is_connection(ask("connect tcp 127.0.0.1 %d", port(0))));
	return MUST(accept4(fd, NULL, NULL, SOCK_CLOEXEC));
}

static int one_of_a_pair(void)
{
	int pair[2];

	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	return pair[0];
}

TEST(recv_on_a_connection_ends_by_its_limit_when_rung, ONCE)
{
	is_ended_by_its_limit(connection(), by_recv);
}

TEST(recvmsg_on_a_connection_ends_by_its_limit_when_rung, ONCE)
{
	is_ended_by_its_limit(connection(), by_recvmsg);
}

TEST(read_of_a_clients_socket_ends_by_its_limit_when_rung, ONCE)
{
	is_ended_by_its_limit(one_of_a_pair(), by_read);
}

TEST(accept_ends_by_its_limit_when_rung, ONCE)
{
	is_ended_by_its_limit(listening(inet4("127.0.0.1", port(0)), SOCK_STREAM), by_accept);
}

/* ---- SO_SNDTIMEO ---- */

/* A listener's queue is full: the next connect() waits. */
static int with_full_queue(struct address a)
{
	int fd = bound(a, SOCK_STREAM), before;

	MUST(listen(fd, 0));
	before = MUST(socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
	MUST(connect(before, &a.any, a.len));
	return fd;
}

/* There is room when the rings are over: a connect() has been cut short by them, if by anything. */
static void connects_when_there_is_room(struct address a)
{
	int listener = with_full_queue(a), fd = MUST(socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));

	limit(fd, SO_SNDTIMEO, 10000);
	begin_rings(MANY / 4, EVERY_MS);
	IN_CHILD
	{
		end_rings();
		close(MUST(accept4(listener, NULL, NULL, SOCK_CLOEXEC)));
	}
	CHECK_INT(connect(fd, &a.any, a.len), 0);
}

TEST(connect_with_a_limit_goes_on_when_rung, ONCE)
{
	connects_when_there_is_room(inet4("127.0.0.1", port(0)));
}

TEST(connect_to_a_unix_socket_with_a_limit_goes_on_when_rung, ONCE)
{
	connects_when_there_is_room(local(in_room("socket")));
}

/* By a unix socket's the kernel says EAGAIN, by others' EINPROGRESS. */
static void is_not_connected_after_its_limit(struct address a)
{
	int fd = MUST(socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
	long began;

	with_full_queue(a);
	limit(fd, SO_SNDTIMEO, LIMIT_MS);
	begin_rings(MANY, EVERY_MS);
	began = now_ms();
	CHECK_INT(connect(fd, &a.any, a.len), -1);
	CHECK(errno == EAGAIN || errno == EINPROGRESS);
	CHECK(now_ms() - began >= LIMIT_MS - 10);
	CHECK(now_ms() - began < 2 * LIMIT_MS + LATE_MS);
	end_rings();
}

TEST(connect_ends_by_its_limit_when_rung, ONCE)
{
	is_not_connected_after_its_limit(inet4("127.0.0.1", port(0)));
}

TEST(connect_to_a_unix_socket_ends_by_its_limit_when_rung, ONCE)
{
	is_not_connected_after_its_limit(local(in_room("socket")));
}

/* ---- errno ---- */

/*
 * Rings that lead nowhere, in which each call of ours fails. bind() notes a ring, and answers it before it comes back.
 */
TEST(what_bind_says_of_its_failure_stays_when_rung, ONCE)
{
	struct address a = inet4("127.0.0.1", port(0));
	int fd, parent = getpid(), child, failed = 0;

	listening(a, SOCK_STREAM);
	fd = MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	child = MUST(fork());
	if (!child)
		MUST(prctl(PR_SET_PDEATHSIG, SIGKILL));
	while (!child && !sigqueue(parent, SIGRTMAX - 5, (union sigval){.sival_ptr = (void *)0x1234}))
		nanosleep(&(struct timespec){0, 100000}, NULL);
	for (long until = now_ms() + 300; now_ms() < until;)
		for (int i = 0; i < 100; i++, failed++)
			CHECK_FAILS(bind(fd, &a.any, a.len), EADDRINUSE);
	MUST(kill(child, SIGKILL));
	CHECK(failed > 100);
}

/* ---- cancellation ---- */

static struct {
	pthread_barrier_t begun;
	_Atomic int tid;
	_Atomic bool goes_on;
} worker;

/* No cancellation point of the program's own until it is let go. */
static void *reckon(void *arg)
{
	worker.tid = (int)syscall(SYS_gettid);
	pthread_barrier_wait(&worker.begun);
	while (!worker.goes_on)
		;
	pthread_testcancel();
	return arg;
}

/* The doorbell rings in that thread: where a process is called by a thread's number, that is asked first. */
TEST(a_thread_that_is_cancelled_answers_first_and_ends_in_its_own_code, BELL, "WARNS=1")
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	const char *busy = busy_program();
	pthread_t thread;
	void *result;

	if (generation() == 1)
		put("inode", inode_of(fd));
	CHECK_INT(inode_of(fd), get("inode"));
	worker.goes_on = false;
	pthread_barrier_init(&worker.begun, NULL, 2);
	CHECK_INT(pthread_create(&thread, NULL, reckon, NULL), 0);
	pthread_barrier_wait(&worker.begun);
	CHECK_INT(pthread_cancel(thread), 0);
	ask("adopt %d", worker.tid);
	for (int i = 0; i < 3; i++)
		CHECK(strstr(ask("status"), "result=ok"));
	restart_is_called_off(busy);
	CHECK(strstr(ask("status"), "result=ok"));
	CHECK_INT(pthread_tryjoin_np(thread, &result), EBUSY);
	ask("adopt %d", getpid());
	worker.goes_on = true;
	CHECK_INT(pthread_join(thread, &result), 0);
	CHECK(result == PTHREAD_CANCELED);
	restart_is_called_off(busy);
	if (generation() < 3)
		next_generation();
}

static void *read_on(void *fd)
{
	worker.tid = (int)syscall(SYS_gettid);
	for (;;)
		MUST(read(*(int *)fd, (char[16]){0}, 16));
}

static void *accept_on(void *fd)
{
	worker.tid = (int)syscall(SYS_gettid);
	for (;;)
		MUST(accept4(*(int *)fd, NULL, NULL, SOCK_CLOEXEC));
}

/* It waits, is rung, waits on, and is cancelled. */
static void is_cancelled_in(void *(*wait)(void *fd), int fd)
{
	pthread_t thread;
	void *result;

	worker.tid = 0;
	CHECK_INT(pthread_create(&thread, NULL, wait, &fd), 0);
	CHECK(AWAIT(sleeps(worker.tid), 5000));
	ask("adopt %d", worker.tid);
	for (int i = 0; i < 3; i++)
		CHECK(strstr(ask("status"), "result=ok"));
	ask("adopt %d", getpid());
	CHECK(AWAIT(sleeps(worker.tid), 5000));
	CHECK_INT(pthread_cancel(thread), 0);
	CHECK_INT(pthread_join(thread, &result), 0);
	CHECK(result == PTHREAD_CANCELED);
}

static void answer(int fd, int number)
{
	ask("request 0 /%d", number);
	CHECK(MUST(read(fd, (char[512]){0}, 512)) > 0);
	write_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	CHECK(!strcmp(ask("response 0"), "ok"));
}

/* A dead thread does not read it for ever: it is frozen, and carried. */
TEST(a_connection_whose_reader_was_cancelled_is_carried, BELL)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM), client;

	if (generation() == 1)
		ask("connect tcp 127.0.0.1 %d", port(0));
	client = MUST(accept4(fd, NULL, NULL, SOCK_CLOEXEC));
	if (generation() == 1)
		put("inode", inode_of(client));
	CHECK_INT(inode_of(client), get("inode"));
	answer(client, 1);
	is_cancelled_in(read_on, client);
	answer(client, 2);
	if (generation() < 3)
		next_generation();
}

TEST(a_listener_whose_thread_was_cancelled_is_kept, BELL)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);

	if (generation() == 1)
		put("inode", inode_of(fd));
	CHECK_INT(inode_of(fd), get("inode"));
	is_cancelled_in(accept_on, fd);
	if (generation() < 3)
		next_generation();
}
