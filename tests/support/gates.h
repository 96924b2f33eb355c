/* SPDX-License-Identifier: MIT */
/* Servers on both sides of the gate, for the programs of tests/wrap: one answers with its generation's number. */
#ifndef GATES_H
#define GATES_H

#include "sockets.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>

enum { END = 'e' };

static int listener, epfd;

/* Takes one client, if one is there: false when that wants the server to end. */
static inline bool serve_one(int fd)
{
	char word = 0, number = (char)('0' + generation());
	int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

	if (peer < 0)
		return true;
	if (read(peer, &word, 1) == 1)
		CHECK_INT(write(peer, &number, 1), 1);
	close(peer);
	return word != END;
}

static inline void register_listener(uint32_t events)
{
	struct epoll_event event = {.events = events, .data.u64 = UINT64_C(0x1234567890)};

	epfd = MUST(epoll_create1(EPOLL_CLOEXEC));
	MUST(epoll_ctl(epfd, EPOLL_CTL_ADD, listener, &event));
}

static inline bool serve_by_epoll(void)
{
	struct epoll_event event;
	int n = epoll_wait(epfd, &event, 1, -1);

	CHECK(n == 1 || (n < 0 && errno == EINTR));
	CHECK(n < 1 || event.data.u64 == UINT64_C(0x1234567890));
	return n < 1 || serve_one(listener);
}

static inline void *serve_in_thread(void *serve)
{
	while (((bool (*)(void))serve)())
		;
	return NULL;
}

static inline const char *generation_at(const char *where)
{
	static char answer[64];
	char send[64];
	const char *number = ask("connect %s", where);

	CHECK(is_connection(number));
	snprintf(send, sizeof(send), "send %s ?", number);
	snprintf(answer, sizeof(answer), "recv %s", number);
	CHECK(!strcmp(ask("%s", send), "ok"));
	return ask("%s", answer);
}

/* "tcp:127.0.0.1:4321" or "unix:@name" as the runner wants to be told where to connect to. */
static inline char *place_of_door(const char *door)
{
	static char where[256];
	const char *colon = strrchr(door, ':');

	CHECK(strcmp(door, "none"));
	if (!strncmp(door, "unix:", 5))
		snprintf(where, sizeof(where), "unix %s", door + 5);
	else
		snprintf(where, sizeof(where), "tcp %.*s %s", (int)(colon - door - 4 - 2 * (door[4] == '[')),
			 door + 4 + (door[4] == '['), colon + 1);
	return where;
}

static inline void end_at(const char *where)
{
	char send[64];

	snprintf(send, sizeof(send), "send %s %c", ask("connect %s", where), END);
	CHECK(!strcmp(ask("%s", send), "ok"));
}

static inline void check_serves(const char *where, const char *number)
{
	for (int i = 0; i < 3; i++)
		CHECK(!strcmp(generation_at(where), number));
}

static inline void level(void)
{
	register_listener(EPOLLIN);
}

#endif
