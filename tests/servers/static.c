/* SPDX-License-Identifier: MIT */
/*
 * HTTP/1.1 on poll(2), to be linked statically: static PORT. On SIGTERM it closes its listener, and each connection
 * after its next answer. It exits with the last connection.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 512, REQUEST_MAX = 1024 };

static const char body[] = "the answer that every server under test gives\n";
static struct pollfd on[CONNECTIONS_MAX]; /* the first is the listener */
static char requests[CONNECTIONS_MAX][REQUEST_MAX];
static size_t used[CONNECTIONS_MAX], count = 1;
static volatile sig_atomic_t ends;

static void end(int signo)
{
	(void)signo;
	ends = 1;
}

static int open_listener(int port)
{
	const struct sockaddr_in address = {.sin_family = AF_INET,
					    .sin_port = htons((unsigned short)port),
					    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const int yes = 1;
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (sock < 0 || setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) ||
	    bind(sock, (const struct sockaddr *)&address, sizeof(address)) || listen(sock, 256)) {
		perror("listen");
		exit(1);
	}
	return sock;
}

static void accept_one(void)
{
	int fd = accept4(on[0].fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	on[count] = (struct pollfd){.fd = fd, .events = POLLIN};
	used[count++] = 0;
}

static void leave(size_t i)
{
	close(on[i].fd);
	count--;
	on[i] = on[count];
	used[i] = used[count];
	memcpy(requests[i], requests[count], used[i]);
}

/* Reads each request to its end, so that close() sends FIN, not RST. */
static void serve(size_t i)
{
	ssize_t n = read(on[i].fd, requests[i] + used[i], REQUEST_MAX - used[i]);
	char answer[256];
	int size;

	if (n <= 0) {
		leave(i);
		return;
	}
	used[i] += (size_t)n;
	if (!memmem(requests[i], used[i], "\r\n\r\n", 4))
		return;
	used[i] = 0;
	size = snprintf(answer, sizeof(answer), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n%s\r\n%s", sizeof(body) - 1,
			ends ? "Connection: close\r\n" : "", body);
	if (write(on[i].fd, answer, (size_t)size) != size || ends)
		leave(i);
}

int main(int argc, char **argv)
{
	sigset_t term, none;

	sigemptyset(&none);
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
	signal(SIGTERM, end);
	signal(SIGPIPE, SIG_IGN);
	on[0] = (struct pollfd){.fd = open_listener(argc > 1 ? atoi(argv[1]) : 0), .events = POLLIN};
	while (!ends || count > 1) {
		if (ends && on[0].fd >= 0) {
			close(on[0].fd);
			on[0].fd = -1;
		}
		if (ppoll(on, count, NULL, &none) < 0)
			continue;
		for (size_t i = count; --i;)
			if (on[i].revents)
				serve(i);
		if (on[0].fd >= 0 && on[0].revents && count < CONNECTIONS_MAX)
			accept_one();
	}
	return 0;
}
