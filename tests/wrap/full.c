/* SPDX-License-Identifier: MIT */
/* A table of fixed size that is full says so: once in the log, and in each answer to `cprctl status`. */
#include "../support/logged.h"
#include "../support/sockets.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>

enum { SETS = 300 }; /* the library knows 256 registrations */

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
