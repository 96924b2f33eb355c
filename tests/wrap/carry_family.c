/* SPDX-License-Identifier: MIT */
/* A connection goes on in the next generation where threads, children, or images of the same process are about it. */
#include "../support/rights.h"
#include "carried.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* ---- from hand to hand ---- */

static ssize_t hear_by_recvmsg(int line, struct msghdr *message)
{
	return recvmsg(line, message, MSG_CMSG_CLOEXEC);
}

static ssize_t hear_by_recvmmsg(int line, struct msghdr *message)
{
	struct mmsghdr one = {.msg_hdr = *message};
	int r = MUST(recvmmsg(line, &one, 1, MSG_CMSG_CLOEXEC, NULL));

	*message = one.msg_hdr;
	return r;
}

static struct server {
	int line;
	ssize_t (*hear)(int line, struct msghdr *message);
	pthread_barrier_t served;
} server;

/* Serves what it is given, and waits for the next request for good. */
static void *serve_what_is_passed(void *arg)
{
	struct rights_message m;
	int fd;

	CHECK_INT(server.hear(server.line, rights_message(&m)), 1);
	fd = received_rights(&m);
	serve(fd, by_read, by_write);
	pthread_barrier_wait(&server.served);
	answer(fd, by_read, by_write);
	return arg;
}

static void is_carried_from_hand_to_hand(ssize_t (*hear)(int line, struct msghdr *message))
{
	int connection = accepted(), lines[2];
	pthread_t thread;

	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, lines));
	server.line = lines[1];
	server.hear = hear;
	pthread_barrier_init(&server.served, NULL, 2);
	CHECK_INT(pthread_create(&thread, NULL, serve_what_is_passed, NULL), 0);
	send_rights(lines[0], connection, false);
	pthread_barrier_wait(&server.served);
	if (generation() < 3)
		next_generation();
}

#define CARRIED_FROM_HAND_TO_HAND(name)                                                                                \
	TEST(a_connection_that_came_by_##name##_is_carried, BELL)                                                      \
	{                                                                                                              \
		is_carried_from_hand_to_hand(hear_by_##name);                                                          \
	}

CARRIED_FROM_HAND_TO_HAND(recvmsg)
CARRIED_FROM_HAND_TO_HAND(recvmmsg)

/* It runs on this memory, and its numbers are its own. */
TEST(a_vfork_child_that_reuses_a_connections_number_leaves_it_to_be_carried, BELL)
{
	int connection = accepted(), pid, status;

	serve(connection, by_read, by_write);
	pid = vfork();
	if (!pid) {
		close(connection);
		_exit(open("/dev/null", O_RDONLY) == connection ? 0 : 1);
	}
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK_INT(status, 0);
	if (generation() < 3)
		next_generation();
}

/* The image that the restart began is not the one that binds. */
TEST(a_program_that_execs_itself_before_it_binds_gets_what_was_carried, BELL)
{
	const char *before = getenv("WRAP_IMAGE");

	if (generation() > 1 && !(before && generation() == atoi(before) + 1)) {
		char image[16];

		snprintf(image, sizeof(image), "%d", generation());
		MUST(setenv("WRAP_IMAGE", image, 1));
		execv(arguments[0], arguments);
	}
	serve(accepted(), by_read, by_write);
	if (generation() < 5)
		next_generation();
}

/* What is carried comes out of a message, and needs a number for that. */
TEST(a_program_that_has_one_number_left_gets_what_was_carried, BELL)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM), connection, last;
	struct rlimit limit;

	if (generation() == 1)
		ask("connect tcp 127.0.0.1 %d", port(0));
	last = MUST(dup(fd));
	MUST(close(last));
	MUST(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = (rlim_t)last + 1;
	MUST(setrlimit(RLIMIT_NOFILE, &limit));
	/* the task uses a number now and then, for a moment */
	CHECK(AWAIT((connection = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0 || errno != EMFILE, 5000));
	CHECK(connection >= 0 && connection <= last);
	CHECK(!is_cloexec(connection));
	CHECK(has_status(connection, O_NONBLOCK));
	limit.rlim_cur = limit.rlim_max;
	MUST(setrlimit(RLIMIT_NOFILE, &limit));
	MUST(fcntl(connection, F_SETFL, 0));
	serve(connection, by_read, by_write);
	if (generation() < 3)
		next_generation();
}

static long seconds(void)
{
	struct timespec now;

	MUST(clock_gettime(CLOCK_MONOTONIC, &now));
	return now.tv_sec;
}

/* As h2o's helper is asked by its master: a question of the family is no client's, and is not waited for. */
TEST(a_question_of_a_child_holds_up_no_restart, BELL, "CPR_DRAIN=10")
{
	int fd = listening(local(in_room("family.sock")), SOCK_STREAM), connection;
	char byte;

	if (generation() == 2) {
		CHECK(seconds() - get("asked_at") < 8);
		return;
	}
	if (!fork()) {
		int line = MUST(try_connect(local(in_room("family.sock")), SOCK_STREAM));

		MUST(write(line, "?", 1));
		_exit(read(line, &byte, 1) < 0);
	}
	connection = MUST(accept(fd, NULL, NULL));
	CHECK_INT(read(connection, &byte, 1), 1);
	put("asked_at", seconds());
	next_generation();
}
