/* SPDX-License-Identifier: MIT */
/* What is noted while an orphan waits is bounded by what is open, and not by what is called. */
#include "../support/sockets.h"

#include <sys/epoll.h>

enum { CALLS = 20000, LIMIT_KB = 512 };

static long resident_kb(void)
{
	long pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	CHECK(file && fscanf(file, "%*d %ld", &pages) == 1 && !fclose(file));
	return pages * sysconf(_SC_PAGESIZE) / 1024;
}

static int accepted(void)
{
	struct address a = inet4("127.0.0.1", port(1));
	int listener = listening(a, SOCK_STREAM), client = MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));

	MUST(connect(client, &a.any, a.len));
	return MUST(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
}

static void call_often(int fd, int epfd)
{
	struct epoll_event event = {.events = EPOLLIN};

	MUST(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event));
	for (int i = 0; i < CALLS; i++) {
		event.events = i % 2 ? EPOLLIN : EPOLLIN | EPOLLOUT;
		MUST(epoll_ctl(epfd, EPOLL_CTL_MOD, fd, &event));
		set_option(fd, SOL_SOCKET, SO_RCVBUF, 4096 + i);
	}
}

TEST(notes_do_not_grow_with_the_calls, EXEC)
{
	struct address a = inet4("127.0.0.1", port(0));
	int epfd = MUST(epoll_create1(EPOLL_CLOEXEC));
	long before;

	if (generation() == 1) {
		listening(a, SOCK_STREAM);
		next_generation();
	}
	call_often(MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), epfd); /* what is touched for the first time */
	before = resident_kb();
	call_often(accepted(), epfd);
	call_often(MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), epfd);
	for (int i = 0; i < 1000; i++) { /* clients of the program, one after the other */
		int fd = MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));

		set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
		close(fd);
	}
	CHECK(resident_kb() - before < LIMIT_KB);
}

/* The last value of each, and the last registration, however often they were changed. */
TEST(what_was_set_last_is_set_on_what_is_claimed, EXEC)
{
	struct address a = inet4("127.0.0.1", port(0));
	struct epoll_event event = {.events = EPOLLOUT, .data.u64 = 1}, got;
	int fd, epfd = MUST(epoll_create1(EPOLL_CLOEXEC)), client;

	if (generation() == 1) {
		listening(a, SOCK_STREAM);
		next_generation();
	}
	fd = MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 0);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	MUST(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event));
	MUST(epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL));
	MUST(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event));
	event = (struct epoll_event){.events = EPOLLIN, .data.u64 = 7};
	MUST(epoll_ctl(epfd, EPOLL_CTL_MOD, fd, &event));
	MUST(bind(fd, &a.any, a.len));
	MUST(listen(fd, 10));
	CHECK_INT(get_option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
	client = MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	MUST(connect(client, &a.any, a.len));
	CHECK_INT(epoll_wait(epfd, &got, 1, 5000), 1);
	CHECK_INT(got.data.u64, 7);
	CHECK_INT(got.events, EPOLLIN);
}
