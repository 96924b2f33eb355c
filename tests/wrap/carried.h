/* SPDX-License-Identifier: MIT */
/* What the tests of carried connections share: a client that stays, and a service that answers it. */
#ifndef CPR_TESTS_WRAP_CARRIED_H
#define CPR_TESTS_WRAP_CARRIED_H

#include "../support/sockets.h"

/* Takes at most n bytes; gives n bytes, all of them. */
typedef ssize_t taker(int fd, char *bytes, size_t n);
typedef ssize_t giver(int fd, const char *bytes, size_t n);

static inline void answer(int fd, taker *take, giver *give)
{
	char request[512], response[128];
	size_t have = 0;
	int n;

	for (request[0] = '\0'; !strstr(request, "\r\n\r\n"); request[have] = '\0')
		have += (size_t)MUST(take(fd, request + have, sizeof(request) - 1 - have));
	CHECK(!strncmp(request, "GET /", 5));
	request[strcspn(request + 4, " ") + 4] = '\0';
	n = snprintf(response, sizeof(response), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s",
		     strlen(request + 4), request + 4);
	CHECK_INT(give(fd, response, (size_t)n), n);
}

/* The same client as in the first generation; what it is accepted as is its number. */
static inline int accepted(void)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM), connection;
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);

	if (generation() == 1)
		ask("connect tcp 127.0.0.1 %d", port(0));
	connection = MUST(accept4(fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC));
	if (generation() == 1) {
		put("port", ntohs(peer.sin_port));
		put("inode", inode_of(connection));
	}
	CHECK_INT(ntohs(peer.sin_port), get("port"));
	CHECK_INT(inode_of(connection), get("inode"));
	return connection;
}

static inline void serve(int connection, taker *take, giver *give)
{
	for (int i = 0; i < 3; i++) {
		ask("request 0 /%d/%d", generation(), i);
		answer(connection, take, give);
		CHECK_INT(atoi(ask("response 0") + 1), generation());
	}
}

static inline ssize_t by_read(int fd, char *bytes, size_t n)
{
	return read(fd, bytes, n);
}

static inline ssize_t by_write(int fd, const char *bytes, size_t n)
{
	return write(fd, bytes, n);
}

#endif
