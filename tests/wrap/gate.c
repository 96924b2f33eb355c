/* SPDX-License-Identifier: MIT */
/*
 * The gate: the next generation starts beside this one, complete but for clients, and takes the listener's place when
 * it is told to. Each case runs in both. Generation 1 serves in a thread, and asks the runner, which is the supervisor.
 * Generation 2 serves until it is asked to end. A server answers with its generation's number.
 */
#include "../support/gates.h"
#include "../support/processes.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static bool serve_by_accept(void)
{
	return serve_one(listener);
}

/* Edge-triggered: to the end of the queue. */
static bool serve_by_edge(void)
{
	struct pollfd queue = {listener, POLLIN, 0};
	bool on = serve_by_epoll();

	while (on && poll(&queue, 1, 0) > 0)
		on = serve_one(listener);
	return on;
}

static bool serve_by_oneshot(void)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = UINT64_C(0x1234567890)};
	bool on = serve_by_epoll();

	MUST(epoll_ctl(epfd, EPOLL_CTL_MOD, listener, &event));
	return on;
}

static bool serve_by_poll(void)
{
	struct pollfd wanted = {listener, POLLIN, 0};

	return poll(&wanted, 1, -1) < 1 || serve_one(listener);
}

/* By number, with the kernel's own arguments. */
static bool serve_by_raw_poll(void)
{
	struct pollfd wanted = {listener, POLLIN, 0};

	return syscall(SYS_ppoll, &wanted, 1, NULL, NULL, 8) < 1 || serve_one(listener);
}

static bool serve_by_select(void)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(listener, &set);
	return select(listener + 1, &set, NULL, NULL, NULL) < 1 || serve_one(listener);
}

/* The part of the generations by these numbers; `where`: as the runner connects to the listener. */
static void is_handed_over_in(int first, int second, struct address a, const char *where, bool (*serve)(void),
			      void (*prepare)(void))
{
	char old[] = {(char)('0' + first), 0}, new[] = {(char)('0' + second), 0};
	pthread_t server;

	listener = listening(a, SOCK_STREAM);
	if (prepare)
		prepare();
	if (generation() == second) {
		serve_in_thread(serve);
		return;
	}
	MUST(-pthread_create(&server, NULL, serve_in_thread, serve));
	check_serves(where, old);
	check_serves(place_of_door(ask("next")), new);
	check_serves(where, old);
	CHECK(!strcmp(ask("hand-over"), "ok"));
	check_serves(where, new);
	CHECK(!strcmp(ask("hand-back"), "ok"));
	check_serves(where, old);
	CHECK(!strcmp(ask("hand-over"), "ok"));
	CHECK(!strcmp(ask("wish FORGET"), "ok"));
	check_serves(where, new);
	end_at(where);
	CHECK(!strcmp(ask("end-of-next"), "0"));
}

static void is_handed_over(struct address a, const char *where, bool (*serve)(void), void (*prepare)(void))
{
	is_handed_over_in(1, 2, a, where, serve, prepare);
}

static void tcp(bool (*serve)(void), void (*prepare)(void))
{
	char where[64];

	snprintf(where, sizeof(where), "tcp 127.0.0.1 %d", port(0));
	is_handed_over(inet4("0.0.0.0", port(0)), where, serve, prepare);
}

TEST(gate_swaps_under_a_thread_in_accept, ONCE)
{
	tcp(serve_by_accept, NULL);
}

TEST(gate_swaps_in_epoll, ONCE)
{
	tcp(serve_by_epoll, level);
}

static void nonblocking_edge(void)
{
	MUST(fcntl(listener, F_SETFL, O_RDWR | O_NONBLOCK));
	register_listener(EPOLLIN | EPOLLET);
}

TEST(gate_swaps_in_epoll_edge_triggered, ONCE)
{
	tcp(serve_by_edge, nonblocking_edge);
}

static void oneshot(void)
{
	MUST(fcntl(listener, F_SETFL, O_RDWR | O_NONBLOCK));
	register_listener(EPOLLIN | EPOLLONESHOT);
}

TEST(gate_swaps_in_epoll_oneshot, ONCE)
{
	tcp(serve_by_oneshot, oneshot);
}

static void exclusive(void)
{
	register_listener(EPOLLIN | EPOLLEXCLUSIVE);
}

TEST(gate_swaps_in_epoll_exclusive, ONCE)
{
	tcp(serve_by_epoll, exclusive);
}

TEST(gate_swaps_under_a_thread_in_poll, ONCE)
{
	tcp(serve_by_poll, NULL);
}

TEST(gate_swaps_under_a_thread_in_poll_by_number, ONCE)
{
	tcp(serve_by_raw_poll, NULL);
}

TEST(gate_swaps_under_a_thread_in_select, ONCE)
{
	tcp(serve_by_select, NULL);
}

TEST(gate_swaps_a_listener_of_ipv6, ONCE)
{
	char where[64];

	snprintf(where, sizeof(where), "tcp ::1 %d", port(0));
	is_handed_over(inet6("::1", port(0)), where, serve_by_epoll, level);
}


/* An old generation that ends takes its own pid file away, and no other's. */
TEST(gate_keeps_the_pid_file_of_the_next_generation, ONCE)
{
	listener = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	put("pid", getpid());
	if (generation() == 2) {
		serve_in_thread(serve_by_accept);
		return;
	}
	char door[256];
	strcpy(door, place_of_door(ask("next")));
	CHECK(!strcmp(ask("wish CLOSE"), "ok"));
	MUST(unlink(in_room("pid")));
	CHECK(get("pid") != getpid());
	put("pid", getpid());
	MUST(unlink(in_room("pid")));
	CHECK_FAILS(unlink(in_room("pid")), ENOENT);
	end_at(door);
	CHECK(!strcmp(ask("end-of-next"), "0"));
}

static void has_pid_file(void)
{
	if (generation() == 2)
		CHECK_FAILS(kill(get("pid"), 0), ESRCH); /* another file stands in for it */
	put("pid", getpid());
	CHECK(get("pid") == getpid());
}

/* Apache, gunicorn and unicorn end at once where a pid file names a process that runs. */
TEST(gate_hides_the_pid_file_of_the_last_generation, ONCE)
{
	tcp(serve_by_accept, has_pid_file);
}

TEST(gate_swaps_a_unix_socket_and_keeps_its_path, ONCE)
{
	char where[512];

	snprintf(where, sizeof(where), "unix %s", in_room("socket"));
	if (generation() == 2)
		MUST(unlink(in_room("socket")));
	listener = listening(local(in_room("socket")), SOCK_STREAM);
	level();
	if (generation() == 2) {
		MUST(unlink(in_room("socket"))); /* as a server that finds itself unfit does when it ends */
		serve_in_thread(serve_by_epoll);
		return;
	}
	MUST(-pthread_create(&(pthread_t){0}, NULL, serve_in_thread, serve_by_epoll));
	check_serves(where, "1");
	check_serves(place_of_door(ask("next")), "2");
	check_serves(where, "1");
	CHECK(!strcmp(ask("hand-over"), "ok"));
	check_serves(where, "2");
	MUST(unlink(in_room("socket")));
	CHECK(!strcmp(ask("wish FORGET"), "ok"));
	MUST(unlink(in_room("socket")));
	close(listener);
	MUST(unlink(in_room("socket")));
	check_serves(where, "2");
	end_at(where);
	CHECK(!strcmp(ask("end-of-next"), "0"));
}

/* ---- several processes ---- */

enum { WORKERS = 3 };

static int workers[WORKERS];

/* Each waits in its own epoll set, and ends by a signal. */
static void fork_workers(void)
{
	for (int i = 0; i < WORKERS; i++) {
		workers[i] = MUST(fork());
		if (workers[i])
			continue;
		level();
		serve_in_thread(serve_by_epoll);
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

TEST(gate_swaps_in_all_workers, ONCE)
{
	char where[64];
	siginfo_t info;

	snprintf(where, sizeof(where), "tcp 127.0.0.1 %d", port(0));
	listener = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	MUST(fcntl(listener, F_SETFL, O_RDWR | O_NONBLOCK));
	fork_workers();
	if (generation() == 2) {
		MUST(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT)); /* one was asked to end */
		end_workers();
		return;
	}
	check_serves(where, "1");
	check_serves(place_of_door(ask("next")), "2");
	check_serves(where, "1");
	CHECK(!strcmp(ask("hand-over"), "ok"));
	for (int i = 0; i < 5; i++)
		check_serves(where, "2");
	CHECK(!strcmp(ask("hand-back"), "ok"));
	for (int i = 0; i < 5; i++)
		check_serves(where, "1");
	CHECK(!strcmp(ask("hand-over"), "ok"));
	check_serves(where, "2");
	end_at(where);
	CHECK(!strcmp(ask("end-of-next"), "0"));
	end_workers();
}

/*
 * A process that hears no signal, as long as its vfork child goes on, cannot answer: the gate stays open, in all others
 * too. (One that was stopped accepts nothing, and is passed over.)
 */
TEST(gate_that_a_worker_does_not_close_is_opened_again, ONCE)
{
	char where[64], byte;
	int line[2];
	pid_t deaf;

	snprintf(where, sizeof(where), "tcp 127.0.0.1 %d", port(0));
	listener = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	MUST(fcntl(listener, F_SETFL, O_RDWR | O_NONBLOCK));
	fork_workers();
	check_serves(where, "1");
	MUST(pipe(line));
	deaf = MUST(fork());
	if (!deaf) {
		MUST(close(line[1]));
		if (!vfork())
			_exit(read(line[0], &byte, 1) != 0);
		for (;;)
			pause();
	}
	CHECK(AWAIT(state_of(deaf) == 'D', 5000));
	CHECK(strstr(ask("wish CLOSE"), "did not close its gate in time") != NULL);
	MUST(close(line[1]));
	for (int i = 0; i < 5; i++)
		check_serves(where, "1");
	MUST(kill(deaf, SIGKILL));
	CHECK_INT(waitpid(deaf, NULL, 0), deaf);
	end_workers();
}

/* ---- what a program sees of it ---- */

TEST(gate_is_not_seen_by_getsockname, ONCE)
{
	listener = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	CHECK_INT(port_of(listener), port(0));
	if (generation() == 2) {
		serve_in_thread(serve_by_accept);
		return;
	}
	end_at(place_of_door(ask("next")));
	CHECK(!strcmp(ask("end-of-next"), "0"));
	CHECK(!strcmp(ask("wish CLOSE"), "ok"));
	CHECK_INT(port_of(listener), port(0));
	CHECK(!strcmp(ask("wish OPEN"), "ok"));
	CHECK_INT(port_of(listener), port(0));
}

/*
 * Behind the gate it is set on the door. The listener has it from the moment at which the gate opens, and not before:
 * until then it is still another generation's.
 */
TEST(gate_gives_options_and_flags_when_it_opens, ONCE)
{
	listener = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	if (generation() == 2) {
		set_option(listener, SOL_SOCKET, SO_PRIORITY, 3);
		MUST(fcntl(listener, F_SETFL, O_RDWR | O_NONBLOCK));
		put("set", 1);
		level();
		serve_in_thread(serve_by_epoll);
		CHECK_INT(get_option(listener, SOL_SOCKET, SO_PRIORITY), 3);
		CHECK(has_status(listener, O_NONBLOCK));
		return;
	}
	ask("next");
	CHECK_INT(get("set"), 1);
	CHECK_INT(get_option(listener, SOL_SOCKET, SO_PRIORITY), 0);
	CHECK(!has_status(listener, O_NONBLOCK));
	CHECK(!strcmp(ask("hand-over"), "ok"));
	char where[64];
	snprintf(where, sizeof(where), "tcp 127.0.0.1 %d", port(0));
	end_at(where);
	CHECK(!strcmp(ask("end-of-next"), "0"));
}

/* A listener that the old generation does not have: no client is let in before the gate opens. */
TEST(gate_stands_before_a_new_listener_too, ONCE)
{
	char where[64];
	int old = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);

	snprintf(where, sizeof(where), "tcp 127.0.0.1 %d", port(1));
	if (generation() == 2) {
		listener = listening(inet4("127.0.0.1", port(1)), SOCK_STREAM);
		level();
		serve_in_thread(serve_by_epoll);
		return;
	}
	CHECK(strstr(ask("next"), " tcp:127.0.0.1:") != NULL);
	CHECK(!strcmp(ask("connect %s", where), "ConnectionRefusedError"));
	CHECK(!strcmp(ask("hand-over"), "ok"));
	check_serves(where, "2");
	end_at(where);
	CHECK(!strcmp(ask("end-of-next"), "0"));
	close(old);
}

/* It goes on with its doors, and with what waits behind them. */
TEST(gate_stays_closed_over_the_programs_own_exec, ONCE)
{
	char where[64];

	snprintf(where, sizeof(where), "tcp 127.0.0.1 %d", port(0));
	if (generation() == 2)
		put("bound", inode_of(listening(inet4("127.0.0.1", port(0)), SOCK_STREAM)));
	if (generation() == 2)
		MUST(execv(arguments[0], arguments));
	is_handed_over_in(1, 3, inet4("127.0.0.1", port(0)), where, serve_by_epoll, level);
}

/* ---- datagrams ---- */

TEST(gate_keeps_datagrams_for_the_server, ONCE)
{
	char where[64], bytes[64] = "";
	int fd = bound(inet4("127.0.0.1", port(0)), SOCK_DGRAM);

	snprintf(where, sizeof(where), "udp 127.0.0.1 %d", port(0));
	if (generation() == 2) {
		put("bound", 1);
		CHECK_INT(recv(fd, bytes, sizeof(bytes), 0), 3);
		CHECK(!strcmp(bytes, "two"));
		return;
	}
	CHECK(is_connection(ask("connect %s", where)));
	ask("next");
	CHECK_INT(get("bound"), 1);
	CHECK(!strcmp(ask("send 0 one"), "ok"));
	CHECK_INT(recv(fd, bytes, sizeof(bytes), 0), 3);
	CHECK(!strcmp(ask("wish CLOSE"), "ok"));
	CHECK(!strcmp(ask("send 0 two"), "ok"));
	CHECK_FAILS(recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT), EAGAIN);
	CHECK(!strcmp(ask("wish-of-next OPEN"), "ok"));
	CHECK(!strcmp(ask("end-of-next"), "0"));
}
