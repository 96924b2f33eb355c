/* SPDX-License-Identifier: MIT */
/* A table of fixed size that is full says so: once in the log, and in each answer to `cprctl status`. */
#include "../support/logged.h"
#include "../support/sockets.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>

enum { SETS = 300, FILES = 70, EARLY = 70 }; /* the library knows 256 registrations */

TEST(a_full_table_says_so, ONCE, "WARNS=1")
{
	int listener = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	struct epoll_event event = {.events = EPOLLIN};

	for (int i = 0; i < SETS; i++) {
		if (i == SETS / 2)
			CHECK(strstr(ask("status"), "full= "));
		MUST(epoll_ctl(MUST(epoll_create1(EPOLL_CLOEXEC)), EPOLL_CTL_ADD, listener, &event));
	}
	CHECK(strstr(ask("status"), "full=registrations "));
	CHECK_INT(times_logged("no room for more than 256 registrations"), 1);
}

TEST(too_many_pid_files_say_so, ONCE, "WARNS=1")
{
	char name[32];

	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "%d.pid", i);
		close(MUST(open(in_room(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)));
	}
	CHECK(strstr(ask("status"), "full=pidfiles "));
	CHECK_INT(times_logged("no room for more than 64 pid files"), 1);
}

/* While something is left to be claimed: these may be for it. */
TEST(too_many_registrations_before_bind_say_so, BOTH, "WARNS=1")
{
	struct epoll_event event = {.events = EPOLLIN};
	int fd;

	if (generation() == 1) {
		listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
		next_generation();
	}
	fd = MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	for (int i = 0; i < EARLY; i++)
		MUST(epoll_ctl(MUST(epoll_create1(EPOLL_CLOEXEC)), EPOLL_CTL_ADD, fd, &event));
	CHECK(strstr(ask("status"), "full=replay "));
	CHECK_INT(times_logged("no room for more than 64 options"), 1);
}
