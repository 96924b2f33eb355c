/* SPDX-License-Identifier: MIT */
/*
 * A small HTTP/1.1 server on epoll with keep-alive and pipelining, which answers every request with its version: httpd
 * PORT [WORKERS].
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION "v1"
#endif

enum { BACKLOG = 128, EVENTS_MAX = 64, HEAD_MAX = 8192, OUT_SIZE = 4096, ANSWER_MAX = 512 };

struct conn {
	int fd;
	bool waits_for_room; /* the socket took only a part of what is in `out`: EPOLLOUT is what we wait for */
	bool last;           /* the last answer has been given: what still comes in is thrown away */
	size_t body_left;    /* how much of a request's body is still to be thrown away */
	size_t in_len, out_len;
	char in[HEAD_MAX], out[OUT_SIZE];
};

struct request {
	bool head;  /* asks for no body */
	bool close; /* asks to close the connection after the answer */
	size_t body_len;
	const char *error; /* the status that refuses it; NULL: none */
};

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Reads one header line, "Name: value". */
static void read_field(struct request *rq, const char *line)
{
	const char *value = strchr(line, ':');
	char *end;

	if (!value) {
		rq->error = "400 Bad Request";
		return;
	}
	value += 1 + strspn(value + 1, " \t");
	if (!strncasecmp(line, "Connection:", 11)) {
		rq->close |= strcasestr(value, "close") != NULL;
	} else if (!strncasecmp(line, "Content-Length:", 15)) {
		rq->body_len = strtoul(value, &end, 10);
		if (*value < '0' || *value > '9' || end[strspn(end, " \t")])
			rq->error = "400 Bad Request";
	} else if (!strncasecmp(line, "Transfer-Encoding:", 18)) {
		rq->error = "501 Not Implemented";
	}
}

/* Reads a request's head, a string that is taken apart. */
static struct request read_head(char *head)
{
	struct request rq = {0};
	char method[16], *line = strsep(&head, "\n");
	int minor;

	if (sscanf(line, "%15[A-Z] %*s HTTP/1.%1d", method, &minor) != 2) {
		rq.error = "400 Bad Request";
		return rq;
	}
	rq.close = minor == 0;
	rq.head = !strcmp(method, "HEAD");
	while (!rq.error && (line = strsep(&head, "\n"))) {
		line[strcspn(line, "\r")] = '\0';
		read_field(&rq, line);
	}
	if (!rq.error && !rq.head && strcmp(method, "GET") && strcmp(method, "POST"))
		rq.error = "405 Method Not Allowed";
	return rq;
}

static void give_answer(struct conn *c, const struct request *rq)
{
	static const char body[] = "hello from httpd " VERSION "\n";

	c->last = rq->close || rq->error;
	c->out_len += (size_t)snprintf(c->out + c->out_len, ANSWER_MAX,
				       "HTTP/1.1 %s\r\nServer-Version: " VERSION
				       "\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n%s\r\n%s",
				       rq->error ? rq->error : "200 OK", sizeof(body) - 1,
				       c->last ? "Connection: close\r\n" : "", rq->head ? "" : body);
	if (c->last)
		c->in_len = 0;
}

static void forget_input(struct conn *c, size_t n)
{
	c->in_len -= n;
	memmove(c->in, c->in + n, c->in_len);
}

/* Answers one request of those that were read. False: none is complete, or there is no room for its answer. */
static bool answer_one(struct conn *c)
{
	size_t skipped = c->body_left < c->in_len ? c->body_left : c->in_len;
	struct request rq;
	char *end;

	forget_input(c, skipped);
	c->body_left -= skipped;
	if (c->last || c->body_left || c->out_len + ANSWER_MAX > sizeof(c->out))
		return false;
	end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
	if (end) {
		*end = '\0';
		rq = read_head(c->in);
		forget_input(c, (size_t)(end + 4 - c->in));
		c->body_left = rq.body_len;
	} else if (c->in_len == sizeof(c->in)) {
		rq = (struct request){.error = "431 Request Header Fields Too Large"};
	} else {
		return false;
	}
	give_answer(c, &rq);
	return true;
}

/* Sends what it can of the answers. False: the connection is broken. */
static bool send_answers(struct conn *c)
{
	ssize_t n;

	while (c->out_len) {
		n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		c->out_len -= (size_t)n;
		memmove(c->out, c->out + n, c->out_len);
	}
	/* Our end only: close() with input unread would send a reset, which can overtake the answer. */
	if (c->last)
		shutdown(c->fd, SHUT_WR);
	return true;
}

/*
 * Reads what has come. False: the client is gone; what it had asked before is answered, for nothing is read while an
 * answer waits.
 */
static bool receive(struct conn *c)
{
	ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, 0);

	if (n > 0)
		c->in_len += (size_t)n;
	if (c->last)
		c->in_len = 0;
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* Goes on with a connection that can be read from, or written to if that is what it waits for. False: it is over. */
static bool go_on(int epoll, struct conn *c)
{
	bool waited = c->waits_for_room, answered;
	struct epoll_event event = {.data.ptr = c};

	if (!waited && !receive(c))
		return false;
	do {
		answered = answer_one(c);
		while (answered && answer_one(c))
			;
		if ((answered || waited) && !send_answers(c))
			return false;
	} while (answered && !c->out_len);
	c->waits_for_room = c->out_len > 0;
	event.events = c->waits_for_room ? EPOLLOUT : EPOLLIN;
	return c->waits_for_room == waited || epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event) == 0;
}

static void accept_all(int epoll, int listener)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct conn *c;
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		c = calloc(1, sizeof(*c));
		if (!c)
			die("calloc");
		c->fd = fd;
		event.data.ptr = c;
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
			die("epoll_ctl");
	}
	if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
		perror("accept4");
}

static int listen_on(const char *port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_port = htons((uint16_t)atoi(port)),
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		die("socket");
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		die("bind");
	if (listen(fd, BACKLOG) < 0 || getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
		die("listen");
	printf("httpd %s listening on 127.0.0.1:%d\n", VERSION, ntohs(addr.sin_port));
	fflush(stdout);
	return fd;
}

/* SIGTERM comes through only while we wait, so that what was read is answered before we leave. */
static void serve(int listener)
{
	struct epoll_event events[EVENTS_MAX], event = {.events = EPOLLIN};
	int epoll = epoll_create1(EPOLL_CLOEXEC), n;
	sigset_t blocked, before;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigprocmask(SIG_BLOCK, &blocked, &before);
	sigaction(SIGTERM, &(struct sigaction){.sa_handler = stop}, NULL);
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) < 0)
		die("epoll");
	while (!stopped) {
		n = epoll_pwait(epoll, events, EVENTS_MAX, -1, &before);
		if (n < 0 && errno != EINTR)
			die("epoll_pwait");
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;

			if (!c) {
				accept_all(epoll, listener);
			} else if (!go_on(epoll, c)) {
				close(c->fd);
				free(c);
			}
		}
	}
}

/* The workers serve, and end with their master. */
static int lead(int listener, int workers)
{
	for (int i = 0; i < workers; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork");
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGTERM);
			serve(listener);
			_exit(0);
		}
	}
	while (wait(NULL) > 0)
		;
	return 0;
}

int main(int argc, char **argv)
{
	int listener;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: httpd PORT [WORKERS]    (0: any; it is printed)\n");
		return 2;
	}
	listener = listen_on(argv[1]);
	if (argc == 3)
		return lead(listener, atoi(argv[2]));
	serve(listener);
	return 0;
}
