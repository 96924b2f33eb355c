/* SPDX-License-Identifier: MIT */
/*
 * An old generation passes its idle connections to the next one, and goes on with the others. A server answers a
 * request of HTTP, and any other word, with its generation's number; the word "end" ends it.
 */
#include "../support/sockets.h"

#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/wait.h>

static int listener, epfd;

static void add_to_set(int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	MUST(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event));
}

/* False: it has been told to end. */
static bool answer(int fd)
{
	char word[512] = "", bytes[128];
	ssize_t n = read(fd, word, sizeof(word) - 1);

	if (n <= 0) {
		CHECK(n == 0 || errno == EAGAIN || errno == EINTR);
		if (!n)
			close(fd);
		return true;
	}
	if (!strncmp(word, "GET ", 4))
		snprintf(bytes, sizeof(bytes), "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", generation());
	else
		snprintf(bytes, sizeof(bytes), "%d", generation());
	CHECK_INT(write(fd, bytes, strlen(bytes)), strlen(bytes));
	return strncmp(word, "end", 3);
}

static void *serve_by_epoll(void *arg)
{
	struct epoll_event event;
	bool on = true;

	(void)arg;
	epfd = MUST(epoll_create1(EPOLL_CLOEXEC));
	add_to_set(listener);
	while (on) {
		int peer;

		if (epoll_wait(epfd, &event, 1, -1) < 1)
			continue;
		if (event.data.fd != listener) {
			on = answer(event.data.fd);
			continue;
		}
		peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (peer >= 0)
			add_to_set(peer);
	}
	return NULL;
}

static _Atomic bool told_to_end;

static void *serve_one(void *fd)
{
	char byte;

	while (recv((int)(long)fd, &byte, 1, MSG_PEEK) > 0 && !told_to_end)
		if (!answer((int)(long)fd))
			told_to_end = true;
	close((int)(long)fd);
	return NULL;
}

/* A thread for each connection, which sleeps in its read. */
static void *serve_by_threads(void *arg)
{
	pthread_t thread;

	(void)arg;
	while (!told_to_end) {
		struct pollfd wanted = {listener, POLLIN, 0};
		int peer = poll(&wanted, 1, 20) > 0 ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;

		if (peer >= 0)
			MUST(-pthread_create(&thread, NULL, serve_one, (void *)(long)peer));
	}
	return NULL;
}

static void say_to(int number, const char *word, const char *expected)
{
	CHECK(!strcmp(ask("send %d %s", number, word), "ok"));
	CHECK(!strcmp(ask("recv %d", number), expected));
}

static void get_from(int number, const char *expected)
{
	const char *got;

	CHECK(!strcmp(ask("request %d /", number), "ok"));
	got = ask("response %d", number);
	if (strcmp(got, expected))
		fail_at(__FILE__, number, got);
}

enum { IDLE = 5, STREAM = IDLE, FRESH };

/* deferred_s: how long accept() waits for a client's first word; 0: it does not. */
static void passes(void *(*serve)(void *), int deferred_s)
{
	pthread_t server;

	listener = listening_with(inet4("127.0.0.1", port(0)), IPPROTO_TCP, TCP_DEFER_ACCEPT, deferred_s);
	MUST(fcntl(listener, F_SETFL, O_RDWR | O_NONBLOCK));
	if (generation() == 2) {
		serve(NULL);
		return;
	}
	MUST(-pthread_create(&server, NULL, serve, NULL));
	for (int i = 0; i <= FRESH; i++)
		CHECK_INT(atoi(ask("connect tcp 127.0.0.1 %d", port(0))), i);
	for (int i = 0; i < IDLE; i++)
		get_from(i, "1");
	say_to(STREAM, "hello", "1");
	ask("next");
	CHECK(!strcmp(ask("hand-over"), "ok"));
	CHECK(!strcmp(ask("pass 1"), "left 1"));
	CHECK(!strcmp(ask("wish FORGET"), "ok"));
	for (int i = 0; i < IDLE; i++)
		get_from(i, "2");
	get_from(FRESH, "2");
	say_to(STREAM, "hello", "1");
	get_from(0, "2");
	CHECK_INT(atoi(ask("passed")), deferred_s ? IDLE : IDLE + 1); /* one that is deferred stayed in the queue */
	say_to(0, "end", "2");
	CHECK(!strcmp(ask("end-of-next"), "0"));
}

TEST(pass_gives_idle_connections_to_the_next_generation_and_keeps_the_others, ONCE)
{
	passes(serve_by_epoll, 0);
}

TEST(pass_takes_connections_from_threads_that_sleep_in_a_read, ONCE)
{
	passes(serve_by_threads, 0);
}

/* The next generation holds those that are silent: all of them, and not the one that came last. */
TEST(pass_gives_all_silent_connections_of_a_listener_that_defers, ONCE)
{
	passes(serve_by_epoll, 30);
}

/* ---- workers ---- */

enum { WORKERS = 3 };

static int workers[WORKERS];

static void fork_workers(void)
{
	for (int i = 0; i < WORKERS; i++) {
		workers[i] = MUST(fork());
		if (workers[i])
			continue;
		serve_by_epoll(NULL);
		_exit(0);
	}
}

static void end_workers(void)
{
	for (int i = 0; i < WORKERS; i++) {
		kill(workers[i], SIGKILL);
		MUST(waitpid(workers[i], NULL, 0));
	}
}

TEST(pass_goes_from_workers_to_workers, ONCE)
{
	siginfo_t info;

	listener = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	MUST(fcntl(listener, F_SETFL, O_RDWR | O_NONBLOCK));
	fork_workers();
	if (generation() == 2) {
		MUST(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT));
		end_workers();
		return;
	}
	for (int i = 0; i < IDLE; i++) {
		CHECK_INT(atoi(ask("connect tcp 127.0.0.1 %d", port(0))), i);
		get_from(i, "1");
	}
	ask("next");
	CHECK(!strcmp(ask("hand-over"), "ok"));
	CHECK(!strcmp(ask("pass 0"), "left 0"));
	for (int i = 0; i < IDLE; i++)
		get_from(i, "2");
	say_to(0, "end", "2");
	CHECK(!strcmp(ask("end-of-next"), "0"));
	end_workers();
}

/* Called off: what is idle goes on in the old generation, which has the listener again. */
TEST(pass_that_is_called_off_leaves_connections_where_they_are, ONCE)
{
	pthread_t server;

	listener = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	MUST(fcntl(listener, F_SETFL, O_RDWR | O_NONBLOCK));
	if (generation() == 2) {
		serve_by_epoll(NULL);
		return;
	}
	MUST(-pthread_create(&server, NULL, serve_by_epoll, NULL));
	CHECK_INT(atoi(ask("connect tcp 127.0.0.1 %d", port(0))), 0);
	say_to(0, "hello", "1");
	ask("next");
	CHECK(!strcmp(ask("hand-over"), "ok"));
	CHECK(!strcmp(ask("pass 1"), "left 1"));
	CHECK(!strcmp(ask("pass-no-more"), "ok"));
	CHECK(!strcmp(ask("hand-back"), "ok"));
	CHECK_INT(atoi(ask("connect tcp 127.0.0.1 %d", port(0))), 1);
	get_from(1, "1");
	get_from(1, "1");
	say_to(0, "hello", "1");
	CHECK(!strcmp(ask("hand-over"), "ok"));
	CHECK_INT(atoi(ask("connect tcp 127.0.0.1 %d", port(0))), 2);
	say_to(2, "end", "2");
	CHECK(!strcmp(ask("end-of-next"), "0"));
}
