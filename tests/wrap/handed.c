/* SPDX-License-Identifier: MIT */
/*
 * Connections that are handed by message to a child that was exec'ed, and holds no listener: they come back, and are
 * carried.
 */
#include "../support/rights.h"
#include "../support/sockets.h"

#include <pthread.h>
#include <sys/wait.h>

static bool by_sendmmsg;

static void hand(int line, int fd)
{
	send_rights(line, fd, by_sendmmsg);
}

/* -1: the other end is gone. */
static int handed(int line)
{
	struct rights_message m;

	return MUST(recvmsg(line, rights_message(&m), MSG_CMSG_CLOEXEC)) ? received_rights(&m) : -1;
}

/* ---- the child ---- */

/* Requests of one byte would be no HTTP, and not carried. */
static void *serve(void *arg)
{
	static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhanded";
	int fd = (int)(long)arg;
	char request[512];
	size_t have = 0;
	ssize_t n;

	while ((n = read(fd, request + have, sizeof(request) - 1 - have)) > 0) {
		have += (size_t)n;
		request[have] = '\0';
		if (!strstr(request, "\r\n\r\n"))
			continue;
		CHECK_INT(write(fd, answer, sizeof(answer) - 1), sizeof(answer) - 1);
		have = 0;
	}
	close(fd);
	return NULL;
}

static void *accept_on(void *arg)
{
	int fd = (int)(long)arg;

	MUST(listen(fd, 16));
	for (;;)
		serve((void *)(long)MUST(accept4(fd, NULL, NULL, SOCK_CLOEXEC)));
	return arg;
}

static bool has_peer(int fd)
{
	struct address peer = {.len = sizeof(peer.in6)};

	return !getpeername(fd, &peer.any, &peer.len);
}

static void be_child(int line)
{
	pthread_t thread;
	char name[32];
	int fd;

	for (int n = 1; (fd = handed(line)) >= 0; n++) {
		CHECK_INT(pthread_create(&thread, NULL, has_peer(fd) ? serve : accept_on, (void *)(long)fd), 0);
		snprintf(name, sizeof(name), "handed-%d", n);
		put(name, 1);
	}
	for (;;) /* until it is told to leave */
		poll(NULL, 0, -1);
}

/* Another process of this program; *line is this end of a socketpair between the two. */
static int child(int *line)
{
	int pair[2], pid;
	char number[16];

	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	pid = MUST(fork());
	if (!pid) {
		MUST(fcntl(pair[1], F_SETFD, 0));
		snprintf(number, sizeof(number), "%d", pair[1]);
		setenv("WRAP_LINE", number, 1);
		execv(arguments[0], arguments);
		_exit(1);
	}
	close(pair[1]);
	*line = pair[0];
	return pid;
}

#define AS_CHILD                                                                                                       \
	if (getenv("WRAP_LINE"))                                                                                       \
	be_child(atoi(getenv("WRAP_LINE")))

static int listener;

/* The same client as in the first generation, and no other. */
static int accepted(void)
{
	int connection;

	listener = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	if (generation() == 1)
		ask("connect tcp 127.0.0.1 %d", port(0));
	connection = MUST(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
	if (generation() == 1)
		put("inode", inode_of(connection));
	CHECK_INT(inode_of(connection), get("inode"));
	return connection;
}

static void check_served(void)
{
	ask("request 0 /");
	CHECK(!strcmp(ask("response 0"), "handed"));
}

/* ---- */

TEST(what_was_handed_to_an_execed_child_is_carried, BELL)
{
	int line, pid;

	AS_CHILD;
	pid = child(&line);
	hand(line, accepted());
	check_served();
	check_served();
	if (generation() > 1)
		CHECK(AWAIT(kill((int)get("child"), 0) < 0, 5000)); /* the old one is told to leave */
	put("child", pid);
	if (generation() < 3)
		next_generation();
}

/* Its own copy is open still, as that of node's primary is until the worker has said that it has got the connection. */
static void hand_and_keep(void)
{
	int line, connection;

	child(&line);
	connection = accepted();
	hand(line, dup(connection));
	check_served();
	if (generation() < 3)
		next_generation();
	CHECK(strstr(ask("status"), "last_restart_carried=1 last_restart_closed=0 last_restart_cut=0"));
}

TEST(what_was_handed_and_is_kept_is_carried_once, BELL)
{
	AS_CHILD;
	hand_and_keep();
}

TEST(what_was_handed_by_sendmmsg_and_is_kept_is_carried_once, BELL)
{
	AS_CHILD;
	by_sendmmsg = true;
	hand_and_keep();
}

static void *let_go_on(void *arg)
{
	sleep_through(100);
	kill((int)(long)arg, SIGCONT);
	return NULL;
}

/* The child receives it when the drain has begun. */
TEST(what_is_on_its_way_to_an_execed_child_is_carried, BELL)
{
	int line, pid, second;
	pthread_t thread;

	AS_CHILD;
	pid = child(&line);
	hand(line, accepted());
	check_served();
	if (generation() == 1) {
		ask("connect tcp 127.0.0.1 %d", port(0));
		kill(pid, SIGSTOP);
		second = MUST(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
		put("second", inode_of(second));
		hand(line, second);
		CHECK_INT(pthread_create(&thread, NULL, let_go_on, (void *)(long)pid), 0);
		next_generation();
	}
	CHECK_INT(inode_of(MUST(accept4(listener, NULL, NULL, SOCK_CLOEXEC))), get("second"));
	CHECK(strstr(ask("status"), "last_restart_carried=2 last_restart_closed=0 last_restart_cut=0"));
}

/*
 * By a message, it may have come from anywhere: what the primary itself has made by connect() is no client of its
 * listener.
 */
TEST(a_connection_that_was_made_and_not_accepted_stays_with_the_child, BELL)
{
	int line;

	AS_CHILD;
	listening(inet4("127.0.0.1", port(1)), SOCK_STREAM);
	child(&line);
	hand(line, accepted());
	check_served();
	if (generation() == 1) {
		hand(line, MUST(try_connect(inet4("127.0.0.1", port(1)), SOCK_STREAM)));
		CHECK(AWAIT(!access(in_room("handed-2"), F_OK), 5000));
		next_generation();
	}
	CHECK(strstr(ask("status"), "last_restart_carried=1 last_restart_closed=0 last_restart_cut=0"));
}

TEST(a_child_that_was_handed_nothing_is_left_alone, BELL)
{
	int line, other;

	AS_CHILD;
	if (generation() == 1) {
		put("other", child(&other));
		MUST(fcntl(other, F_SETFD, FD_CLOEXEC));
	}
	child(&line);
	hand(line, accepted());
	check_served();
	if (generation() == 1)
		next_generation();
	sleep_through(1200); /* it would be told when this generation is ready, which is after 500 ms */
	CHECK(!kill((int)get("other"), 0));
	kill((int)get("other"), SIGKILL);
}

/* As node's cluster does with SCHED_NONE: the primary binds, and a worker gets what was bound, and listens. */
TEST(a_listener_that_was_handed_to_an_execed_child_is_shared_with_it, BELL)
{
	int line, pid, fd;

	AS_CHILD;
	fd = bound(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	pid = child(&line);
	hand(line, MUST(dup(fd)));
	CHECK(AWAIT(get_option(fd, SOL_SOCKET, SO_ACCEPTCONN), 5000));
	if (generation() == 1)
		ask("connect tcp 127.0.0.1 %d", port(0));
	check_served();
	check_served();
	if (generation() > 1)
		CHECK(AWAIT(kill((int)get("child"), 0) < 0, 5000));
	put("child", pid);
	if (generation() < 3)
		next_generation();
	CHECK(strstr(ask("status"), "last_restart_carried=1 last_restart_closed=0 last_restart_cut=0"));
}
