/* SPDX-License-Identifier: MIT */
/*
 * A listener with TCP_DEFER_ACCEPT: a carried connection comes to the program when its client has spoken, and not
 * before, as a new one would.
 */
#include "../support/failing.h"
#include "../support/sockets.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { DEFERRED_S = 30, CLIENTS = 3 };

static int deferring(void)
{
	return listening_with(inet4("127.0.0.1", port(0)), IPPROTO_TCP, TCP_DEFER_ACCEPT, DEFERRED_S);
}

static bool waits(int listener, int ms)
{
	return MUST(poll(&(struct pollfd){.fd = listener, .events = POLLIN}, 1, ms)) > 0;
}

/* What it asks for is its number: which it is. */
static int serve(int connection)
{
	char request[512], response[64];
	int n = (int)MUST(read(connection, request, sizeof(request) - 1)), which;

	request[n] = '\0';
	which = atoi(request + strlen("GET /"));
	n = snprintf(response, sizeof(response), "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", which);
	MUST(write(connection, response, (size_t)n));
	CHECK_INT(atoi(ask("response %d", which)), which);
	return which;
}

static int accept_speaking(int listener)
{
	CHECK(waits(listener, 5000));
	return MUST(accept(listener, NULL, NULL));
}

/* Each of the clients is known to the program, and has nothing to say. */
static int with_silent_clients(int into[CLIENTS])
{
	int listener = deferring();

	for (int i = 0; i < CLIENTS && generation() == 1; i++) {
		CHECK_INT(atoi(ask("connect tcp 127.0.0.1 %d", port(0))), i);
		ask("request %d /%d", i, i);
		into[i] = accept_speaking(listener);
		CHECK_INT(serve(into[i]), i);
	}
	if (generation() == 1)
		next_generation();
	return listener;
}

TEST(a_silent_client_is_not_accepted, BELL)
{
	int connections[CLIENTS], listener = with_silent_clients(connections);
	char expected[32];

	CHECK(!waits(listener, 300));
	for (int i = CLIENTS; i-- > 0;) {
		snprintf(expected, sizeof(expected), "connections_waiting=%d", i + 1);
		CHECK(strstr(ask("status"), expected));
		ask("request %d /%d", i, i);
		connections[i] = accept_speaking(listener);
		CHECK_INT(serve(connections[i]), i);
		CHECK(!waits(listener, 50));
	}
	CHECK(strstr(ask("status"), "connections_waiting=0"));
}

TEST(nothing_is_left_on_a_connection_that_was_held, BELL)
{
	int connections[CLIENTS], listener = with_silent_clients(connections), fd;

	ask("request 1 /1");
	fd = accept_speaking(listener);
	CHECK(!has_status(fd, O_ASYNC));
	CHECK_INT(fcntl(fd, F_GETOWN), 0);
	CHECK_INT(fcntl(fd, F_GETSIG), 0);
	serve(fd);
}

TEST(one_that_spoke_and_one_that_is_held_are_carried_on_again, BELL)
{
	int connections[CLIENTS], listener = with_silent_clients(connections);

	if (generation() == 2) {
		ask("request 1 /1");
		connections[1] = accept_speaking(listener);
		serve(connections[1]);
		ask("request 2 /2"); /* it may be knocked for already, or not */
		next_generation();
	}
	CHECK_INT(serve(accept_speaking(listener)), 2);
	CHECK(!waits(listener, 100));
	for (int i = 0; i < 2; i++) {
		ask("request %d /%d", i, i);
		CHECK_INT(serve(accept_speaking(listener)), i);
	}
}

TEST(a_restart_that_is_called_off_lets_go_of_none_that_is_held, BELL, "WARNS=1")
{
	int connections[CLIENTS], listener = with_silent_clients(connections);

	restart_is_called_off(busy_program());
	CHECK(!waits(listener, 100));
	for (int i = 0; i < CLIENTS; i++) {
		ask("request %d /%d", i, i);
		CHECK_INT(serve(accept_speaking(listener)), i);
	}
}

TEST(one_that_ends_while_held_is_forgotten, BELL)
{
	int connections[CLIENTS], listener = with_silent_clients(connections);

	if (generation() == 2) {
		ask("close 0");
		next_generation();
	}
	CHECK(!waits(listener, 100));
	ask("request 1 /1");
	CHECK_INT(serve(accept_speaking(listener)), 1);
}

TEST(one_that_says_nothing_for_as_long_as_grace_sees_the_end, BELL, "CPR_GRACE=1")
{
	int connections[CLIENTS], listener = with_silent_clients(connections);

	for (int i = 0; i < CLIENTS; i++)
		CHECK(!strcmp(ask("recv %d", i), "eof"));
	CHECK(!waits(listener, 0));
}

/* The owner holds them, and its workers accept. */
TEST(a_worker_accepts_what_has_spoken, BELL)
{
	int connections[CLIENTS], listener = with_silent_clients(connections), status;
	pid_t worker = MUST(fork());

	for (int i = CLIENTS; !worker && i-- > 0;) {
		ask("request %d /%d", i, i);
		CHECK_INT(serve(accept_speaking(listener)), i);
	}
	if (!worker)
		_exit(0);
	CHECK_INT(MUST(waitpid(worker, &status, 0)), worker);
	CHECK_INT(status, 0);
	for (int i = 0; i < CLIENTS; i++)
		CHECK(!strcmp(ask("recv %d", i), "eof")); /* the worker's copy was the only one */
}

TEST(all_that_are_held_are_accepted_when_the_listener_does_not_defer_any_more, BELL)
{
	int connections[CLIENTS], listener = with_silent_clients(connections);

	CHECK(!waits(listener, 100));
	set_option(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0);
	for (int i = 0; i < CLIENTS; i++)
		connections[i] = accept_speaking(listener);
	for (int i = 0; i < CLIENTS; i++) {
		ask("request %d /%d", i, i);
		CHECK(waits(connections[0], 0) + waits(connections[1], 0) + waits(connections[2], 0) == 1);
		for (int j = 0; j < CLIENTS; j++)
			if (waits(connections[j], 0))
				CHECK_INT(serve(connections[j]), i);
	}
}

/* The process that was rung is gone: the one that is left has itself rung. */
TEST(a_daemon_hears_what_is_held, BELL)
{
	int connections[CLIENTS], listener = with_silent_clients(connections);
	pid_t starter = getpid();

	CHECK(!waits(listener, 100)); /* it is ready */
	if (MUST(fork()))
		_exit(0);
	ask("adopt %d", getpid());
	CHECK(AWAIT(getppid() != starter, 5000));
	CHECK(!waits(listener, 300));
	for (int i = CLIENTS; i-- > 0;) {
		ask("request %d /%d", i, i);
		CHECK_INT(serve(accept_speaking(listener)), i);
	}
}

/* ---- where no number is free ---- */

/* What is held is looked at outside its queue: at its limit, a program must not lose it there. */
TEST(a_program_that_has_no_number_left_loses_none_that_is_held, BELL)
{
	int connections[CLIENTS], listener = with_silent_clients(connections), last = MUST(dup(listener));
	struct rlimit limit;

	CHECK(!waits(listener, 100)); /* it is ready */
	MUST(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = (rlim_t)last + 1;
	MUST(setrlimit(RLIMIT_NOFILE, &limit));
	ask("request 2 /2");
	CHECK(!waits(listener, 300));
	limit.rlim_cur = limit.rlim_max;
	MUST(setrlimit(RLIMIT_NOFILE, &limit));
	for (int i = CLIENTS; i-- > 0;) {
		if (i < 2)
			ask("request %d /%d", i, i);
		CHECK_INT(serve(accept_speaking(listener)), i);
	}
}

/* The caller takes one number, a look at the program's file one for a moment, and the held connections three. */
TEST(a_program_that_has_few_numbers_left_takes_back_what_is_held, BELL, "WARNS=1")
{
	int connections[CLIENTS], listener = with_silent_clients(connections), last;
	const char *busy = busy_program();
	struct rlimit limit;

	last = MUST(dup(listener));
	CHECK(!waits(listener, 100)); /* it is ready */
	MUST(close(last));
	MUST(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = (rlim_t)last + 3;
	MUST(setrlimit(RLIMIT_NOFILE, &limit));
	CHECK(strstr(ask("try_restart %s", busy), "result=failed"));
	limit.rlim_cur = limit.rlim_max;
	MUST(setrlimit(RLIMIT_NOFILE, &limit));
	for (int i = 0; i < CLIENTS; i++) {
		ask("request %d /%d", i, i);
		CHECK_INT(serve(accept_speaking(listener)), i);
	}
}

/* ---- at the end of grace ---- */

TEST(one_that_speaks_at_the_last_moment_is_served_after_grace, BELL, "CPR_GRACE=1")
{
	int connections[CLIENTS], listener = with_silent_clients(connections);

	sleep_through(800);
	ask("request 1 /1");
	sleep_through(700); /* the program is busy */
	CHECK_INT(serve(accept_speaking(listener)), 1);
	CHECK(!strcmp(ask("recv 0"), "eof"));
}

static long switches(pid_t pid)
{
	char path[64], line[256];
	FILE *status;
	long n = -1;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	status = fopen(path, "re");
	while (status && fgets(line, sizeof(line), status))
		sscanf(line, "voluntary_ctxt_switches: %ld", &n);
	CHECK(status && !fclose(status));
	return n;
}

static bool rests(pid_t pid)
{
	long before = switches(pid);

	sleep_through(1000);
	return switches(pid) - before < 3;
}

TEST(owners_that_have_held_and_their_workers_rest_after_grace, BELL, "CPR_GRACE=1")
{
	int connections[CLIENTS], listener = with_silent_clients(connections), status;
	pid_t worker, looker;

	CHECK(!waits(listener, 100)); /* it is ready */
	worker = MUST(fork());
	if (!worker) {
		CHECK(!waits(listener, 1200));
		for (;;)
			poll(NULL, 0, -1);
	}
	CHECK(!waits(listener, 3000));
	looker = MUST(fork());
	if (!looker) {
		CHECK(rests(worker));
		CHECK(rests(getppid()));
		_exit(0);
	}
	CHECK_INT(MUST(waitpid(looker, &status, 0)), looker);
	CHECK_INT(status, 0);
	MUST(kill(worker, SIGKILL));
}

/* ---- where rings are lost ---- */

TEST(a_queue_of_signals_that_is_full_ends_no_process, BELL)
{
	int connections[CLIENTS], listener = with_silent_clients(connections);
	struct rlimit limit = {0, 0};

	MUST(getrlimit(RLIMIT_SIGPENDING, &limit));
	limit.rlim_cur = 0;
	MUST(setrlimit(RLIMIT_SIGPENDING, &limit));
	ask("request 1 /1");
	CHECK_INT(serve(accept_speaking(listener)), 1);
}

/* ---- where workers had taken it back ---- */

/* Answers each client that comes; the first of all slowly. */
static pid_t worker_of(int listener, int slow_ms)
{
	pid_t worker = MUST(fork());

	for (int open[16], n = 0; !worker;) {
		struct pollfd p[17] = {{.fd = listener, .events = POLLIN}};

		for (int i = 0; i < n; i++)
			p[i + 1] = (struct pollfd){.fd = open[i], .events = POLLIN};
		if (poll(p, (nfds_t)n + 1, -1) < 0)
			continue;
		for (int i = 0; i < n; i++) {
			char request[512];

			if (!p[i + 1].revents)
				continue;
			if (read(open[i], request, sizeof(request)) <= 0)
				_exit(1);
			sleep_through(slow_ms);
			slow_ms = 0;
			MUST(write(open[i], "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 40));
		}
		if (p[0].revents && n < 16)
			open[n++] = MUST(accept(listener, NULL, NULL));
	}
	return worker;
}

static void are_served(void)
{
	for (int i = 0; i < CLIENTS; i++) {
		ask("request %d /%d", i, i);
		CHECK(!strcmp(ask("response %d", i), "hi"));
	}
}

TEST(a_restart_that_is_called_off_leaves_workers_what_is_held, BELL, "WARNS=1")
{
	int connections[CLIENTS], listener = with_silent_clients(connections);

	worker_of(listener, 0);
	restart_is_called_off(busy_program());
	are_served();
}

/*
 * All are frozen, and go on again, since a request that began a moment before takes long. By then, workers have taken
 * back what is held.
 */
TEST(a_restart_that_begins_twice_leaves_none_that_is_held, BELL, "WARNS=1")
{
	int connections[CLIENTS], listener = with_silent_clients(connections);

	if (generation() == 2) {
		CHECK(!waits(listener, 100)); /* it is ready */
		for (int i = 0; i < 2; i++)
			ask("connect tcp 127.0.0.1 %d", port(0));
		worker_of(listener, 400);
		ask("request %d /", CLIENTS);
		sleep_through(50);
		worker_of(listener, 900);
		worker_of(listener, 900);
		say("restart\n");
		sleep_through(200);
		ask("request %d /", CLIENTS + 1);
		for (;;)
			poll(NULL, 0, -1);
	}
	worker_of(listener, 0);
	are_served();
}
