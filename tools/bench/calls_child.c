/* SPDX-License-Identifier: MIT */
/* The calls that are measured, by a process under the library and by one without: both run this. */
#define _GNU_SOURCE
#include "calls.h"

#include "base/attr.h"
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	QUEUE = 64,    /* connections that wait for accept() at a time */
	PIECE = 64,    /* bytes of a read or write */
	PIECES = 128,  /* of them at a time: what a socket's and a pipe's buffers surely hold */
	REQUESTS = 32, /* pipelined */
};

static int failed(void)
{
	return errno ? -errno : -EIO;
}

/*
 * This thread's own time: what other programs do on this processor meanwhile does not count. None of these calls
 * sleeps.
 */
static int64_t own_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- what is opened and closed ---- */

static int64_t open_close(struct work *work, size_t count)
{
	int64_t start = own_now();

	for (size_t i = 0; i < count; i++)
		if (close(open(work->path, O_RDONLY | O_CLOEXEC)))
			return failed();
	return own_now() - start;
}

static int64_t socket_close(struct work *work, size_t count)
{
	int64_t start = own_now();

	(void)work;
	for (size_t i = 0; i < count; i++)
		if (close(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)))
			return failed();
	return own_now() - start;
}

static int64_t dup_close(struct work *work, size_t count)
{
	int64_t start = own_now();

	(void)work;
	for (size_t i = 0; i < count; i++)
		if (close(dup(STDIN_FILENO)))
			return failed();
	return own_now() - start;
}

/* ---- sockets ---- */

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int begin_listener(struct work *work)
{
	struct sockaddr_in addr = loopback(0);
	socklen_t len = sizeof(addr);

	work->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (work->listener < 0 || bind(work->listener, (struct sockaddr *)&addr, len) ||
	    listen(work->listener, 2 * QUEUE) || getsockname(work->listener, (struct sockaddr *)&addr, &len))
		return failed();
	work->port = ntohs(addr.sin_port);
	return 0;
}

/* To the same port each time, as servers do; at an address that is this thread's alone, so that the port is free. */
static int64_t bind_listen_close(struct work *work, size_t count)
{
	struct sockaddr_in addr = loopback(8080);
	int64_t spent = 0;
	int fds[QUEUE], on = 1;

	(void)work;
	addr.sin_addr.s_addr = htonl(0x7f000000 | ((uint32_t)gettid() & 0xffffff));
	for (size_t done = 0, n; done < count; done += n) {
		int64_t start;

		n = count - done < QUEUE ? count - done : QUEUE;
		for (size_t i = 0; i < n; i++) {
			fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
			setsockopt(fds[i], SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		}
		start = own_now();
		for (size_t i = 0; i < n; i++)
			if (bind(fds[i], (struct sockaddr *)&addr, sizeof(addr)) || listen(fds[i], QUEUE) ||
			    close(fds[i]))
				return failed();
		spent += own_now() - start;
	}
	return spent;
}

/*
 * A client's end. It will be reset when it is closed: the port is free again at once, and does not wait for its time.
 */
static int connect_client(const struct work *work)
{
	struct sockaddr_in addr = loopback(work->port);
	struct linger reset = {.l_onoff = 1};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) ||
	    connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return failed();
	return fd;
}

static int64_t accept_close(struct work *work, size_t count)
{
	int64_t spent = 0;
	int clients[QUEUE];

	for (size_t done = 0, n; done < count; done += n) {
		int64_t start;

		n = count - done < QUEUE ? count - done : QUEUE;
		for (size_t i = 0; i < n; i++) {
			clients[i] = connect_client(work);
			if (clients[i] < 0)
				return clients[i];
		}
		start = own_now();
		for (size_t i = 0; i < n; i++)
			if (close(accept4(work->listener, NULL, NULL, SOCK_CLOEXEC)))
				return failed();
		spent += own_now() - start;
		for (size_t i = 0; i < n; i++)
			close(clients[i]);
	}
	return spent;
}

/* ---- reading and writing ---- */

static int begin_connection(struct work *work)
{
	int on = 1, r = begin_listener(work);

	if (r)
		return r;
	work->fds[1] = connect_client(work);
	if (work->fds[1] < 0)
		return work->fds[1];
	work->fds[0] = accept4(work->listener, NULL, NULL, SOCK_CLOEXEC);
	if (work->fds[0] < 0 || setsockopt(work->fds[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		return failed();
	return 0;
}

static int begin_pipe(struct work *work)
{
	return pipe2(work->fds, O_CLOEXEC) ? failed() : 0;
}

static int write_all(int fd, const char *bytes, size_t n)
{
	while (n) {
		ssize_t r = write(fd, bytes, n);

		if (r <= 0)
			return failed();
		bytes += r;
		n -= (size_t)r;
	}
	return 0;
}

static int read_all(int fd, size_t n)
{
	char bytes[16384];

	while (n) {
		ssize_t r = read(fd, bytes, n < sizeof(bytes) ? n : sizeof(bytes));

		if (r <= 0)
			return failed();
		n -= (size_t)r;
	}
	return 0;
}

/* `count` reads of a piece each; what is read is written first, by turns, and its time does not count. */
static int64_t read_pieces(int from, int to, size_t count)
{
	static const char many[PIECES * PIECE]; /* zeroes: the beginning of no protocol that anyone knows */
	char bytes[PIECE];
	int64_t spent = 0;

	for (size_t done = 0, n; done < count; done += n) {
		int64_t start;
		int r;

		n = count - done < PIECES ? count - done : PIECES;
		r = write_all(to, many, n * PIECE);
		if (r)
			return r;
		start = own_now();
		for (size_t i = 0; i < n; i++)
			if (read(from, bytes, PIECE) != PIECE)
				return failed();
		spent += own_now() - start;
	}
	return spent;
}

static int64_t write_pieces(int from, int to, size_t count)
{
	static const char bytes[PIECE];
	int64_t spent = 0;

	for (size_t done = 0, n; done < count; done += n) {
		int64_t start = own_now();
		int r;

		n = count - done < PIECES ? count - done : PIECES;
		for (size_t i = 0; i < n; i++)
			if (write(to, bytes, PIECE) != PIECE)
				return failed();
		spent += own_now() - start;
		r = read_all(from, n * PIECE);
		if (r)
			return r;
	}
	return spent;
}

static int64_t read_connection(struct work *work, size_t count)
{
	return read_pieces(work->fds[0], work->fds[1], count);
}

static int64_t write_connection(struct work *work, size_t count)
{
	return write_pieces(work->fds[1], work->fds[0], count);
}

static int64_t read_pipe(struct work *work, size_t count)
{
	return read_pieces(work->fds[0], work->fds[1], count);
}

static int64_t write_pipe(struct work *work, size_t count)
{
	return write_pieces(work->fds[0], work->fds[1], count);
}

static const char request[] =
	"GET /index.html HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n";
static const char answer[] =
	"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world\n";

enum { REQUEST = sizeof(request) - 1, ANSWER = sizeof(answer) - 1 };

/* Requests that wait are read and answered one after the other. */
static int64_t serve_http(struct work *work, size_t count)
{
	char bytes[REQUEST];
	int64_t spent = 0;

	for (size_t done = 0, n; done < count; done += n) {
		char many[REQUESTS * REQUEST];
		int64_t start;
		int r;

		n = count - done < REQUESTS ? count - done : REQUESTS;
		for (size_t i = 0; i < n; i++)
			memcpy(many + i * REQUEST, request, REQUEST);
		r = write_all(work->fds[1], many, n * REQUEST);
		if (r)
			return r;
		start = own_now();
		for (size_t i = 0; i < n; i++)
			if (read(work->fds[0], bytes, REQUEST) != REQUEST ||
			    write(work->fds[0], answer, ANSWER) != ANSWER)
				return failed();
		spent += own_now() - start;
		r = read_all(work->fds[1], n * ANSWER);
		if (r)
			return r;
	}
	return spent;
}

/* ---- waiting ---- */

static int begin_epoll(struct work *work)
{
	struct epoll_event event = {.events = EPOLLIN};

	work->fds[0] = epoll_create1(EPOLL_CLOEXEC);
	work->fds[1] = eventfd(1, EFD_CLOEXEC);
	return work->fds[0] < 0 || work->fds[1] < 0 || epoll_ctl(work->fds[0], EPOLL_CTL_ADD, work->fds[1], &event)
		       ? failed()
		       : 0;
}

/* One is always ready: what is measured is the call, not the waiting. */
static int64_t wait_epoll(struct work *work, size_t count)
{
	struct epoll_event events[8];
	int64_t start = own_now();

	for (size_t i = 0; i < count; i++)
		if (epoll_wait(work->fds[0], events, countof(events), 100) != 1)
			return failed();
	return own_now() - start;
}

/* ---- processes ---- */

static int await(pid_t pid)
{
	int status;

	return pid < 0 || waitpid(pid, &status, 0) != pid  ? failed()
	       : !WIFEXITED(status) || WEXITSTATUS(status) ? -ECHILD
							   : 0;
}

static int64_t fork_wait(struct work *work, size_t count)
{
	int64_t start = bench_now();

	(void)work;
	for (size_t i = 0; i < count; i++) {
		pid_t pid = fork();
		int r;

		if (!pid)
			_exit(0);
		r = await(pid);
		if (r)
			return r;
	}
	return bench_now() - start;
}

static int64_t run_true(char *const envp[], size_t count)
{
	static char name[] = "true";
	char *argv[] = {name, NULL};
	int64_t start = bench_now();

	for (size_t i = 0; i < count; i++) {
		pid_t pid = fork();
		int r;

		if (!pid) {
			execve("/bin/true", argv, envp);
			_exit(127);
		}
		r = await(pid);
		if (r)
			return r;
	}
	return bench_now() - start;
}

/* The call's own cost: the program that it starts is started without the library. */
static int64_t exec_true(struct work *work, size_t count)
{
	char *const none[] = {NULL};

	(void)work;
	return run_true(none, count);
}

/* As servers do it: under the library, so is the program that it starts. */
static int64_t exec_true_with_all(struct work *work, size_t count)
{
	(void)work;
	return run_true(environ, count);
}

const struct call calls[] = {
	{"open+close of a file", 1.05, NULL, open_close, 0},
	{"socket+close", 1.05, NULL, socket_close, 0},
	{"dup+close", 1.05, NULL, dup_close, 0},
	{"bind+listen+close", 1.05, NULL, bind_listen_close, 0},
	{"accept+close", 1.05, begin_listener, accept_close, 4096},
	{"read, a connection of no known protocol", 1.03, begin_connection, read_connection, 0},
	{"write, the same", 1.03, begin_connection, write_connection, 0},
	{"read and write, HTTP/1.1: a request, its answer", 1.03, begin_connection, serve_http, 0},
	{"read, a pipe", 1.03, begin_pipe, read_pipe, 0},
	{"write, the same pipe", 1.03, begin_pipe, write_pipe, 0},
	{"epoll_wait", 1.05, begin_epoll, wait_epoll, 0},
	{"fork, exit and wait", 1.05, NULL, fork_wait, 0},
	{"fork, execve of /bin/true, wait", 1.05, NULL, exec_true, 0},
	{"the same, /bin/true under the library as well", 0, NULL, exec_true_with_all, 0},
};

const size_t call_count = countof(calls);
