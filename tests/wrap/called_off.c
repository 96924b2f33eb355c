/* SPDX-License-Identifier: MIT */
/*
 * A drain that is called off leaves registrations in epoll sets as the program made them. EPOLLONESHOT tells once, and
 * the thread that it told has the connection for itself.
 */
#include "../support/failing.h"
#include "../support/sockets.h"

#include <pthread.h>
#include <sys/epoll.h>

enum { ONCE_ONLY = EPOLLIN | EPOLLONESHOT, SOON_MS = 5000, NEVER_MS = 100 };

static void set_on(int epfd, int op, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.fd = fd};

	MUST(epoll_ctl(epfd, op, fd, &event));
}

/* Exactly this one is ready. */
static void tells(int epfd, int fd)
{
	struct epoll_event events[4] = {0};

	CHECK_INT(epoll_wait(epfd, events, 4, SOON_MS), 1);
	CHECK_INT(events[0].data.fd, fd);
}

static void tells_nothing(int epfd)
{
	CHECK_INT(epoll_wait(epfd, &(struct epoll_event){0}, 1, NEVER_MS), 0);
}

/* The client of this number, accepted. */
static int client(int listener, int number)
{
	CHECK_INT(atoi(ask("connect tcp 127.0.0.1 %d", port_of(listener))), number);
	return MUST(accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

static void asks(int number)
{
	CHECK(!strcmp(ask("request %d /", number), "ok"));
}

static void read_request(int fd)
{
	char request[512];

	CHECK(AWAIT(read(fd, request, sizeof(request)) > 0, SOON_MS));
}

static void answer(int fd, int number)
{
	read_request(fd);
	write_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	CHECK(!strcmp(ask("response %d", number), "ok"));
}

/* Of its client 0: told once, answered, and not armed again. */
static int told_and_answered(int epfd, int listener)
{
	int fd = client(listener, 0);

	set_on(epfd, EPOLL_CTL_ADD, fd, ONCE_ONLY);
	asks(0);
	tells(epfd, fd);
	answer(fd, 0);
	return fd;
}

TEST(a_connection_that_was_told_of_once_is_not_told_of_again_after_a_drain, ONCE, "WARNS=1")
{
	int listener = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM), epfd = MUST(epoll_create1(EPOLL_CLOEXEC));
	int fd = told_and_answered(epfd, listener);

	restart_is_called_off(busy_program());
	asks(0);
	tells_nothing(epfd);
	set_on(epfd, EPOLL_CTL_MOD, fd, ONCE_ONLY);
	tells(epfd, fd);
	answer(fd, 0);
}

TEST(a_connection_that_was_not_told_of_yet_is_told_of_after_a_drain, ONCE, "WARNS=1")
{
	int listener = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM), epfd = MUST(epoll_create1(EPOLL_CLOEXEC));
	int fd = told_and_answered(epfd, listener);

	set_on(epfd, EPOLL_CTL_MOD, fd, ONCE_ONLY);
	restart_is_called_off(busy_program());
	asks(0);
	tells(epfd, fd);
	tells_nothing(epfd);
}

TEST(a_listener_that_was_told_of_once_is_not_told_of_again_after_a_drain, ONCE, "WARNS=1")
{
	int listener = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM), epfd = MUST(epoll_create1(EPOLL_CLOEXEC));

	set_on(epfd, EPOLL_CTL_ADD, listener, ONCE_ONLY);
	CHECK(is_connection(ask("connect tcp 127.0.0.1 %d", port(0))));
	tells(epfd, listener);
	close(MUST(accept4(listener, NULL, NULL, SOCK_CLOEXEC)));
	restart_is_called_off(busy_program());
	CHECK(is_connection(ask("connect tcp 127.0.0.1 %d", port(0))));
	tells_nothing(epfd);
	set_on(epfd, EPOLL_CTL_MOD, listener, ONCE_ONLY);
	tells(epfd, listener);
}

/* Is it in the set, as the kernel has it? */
static bool is_in(int epfd, int fd)
{
	char path[64], line[256], wanted[32];
	bool found = false;
	FILE *info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", epfd);
	snprintf(wanted, sizeof(wanted), "tfd: %8d ", fd);
	info = fopen(path, "re");
	CHECK(info);
	while (fgets(line, sizeof(line), info))
		found |= !strncmp(line, wanted, strlen(wanted));
	fclose(info);
	return found;
}

struct armed {
	int epfd, fd, listener, idle;
};

/* The idle one leaves its set when it is frozen, and those before it are by then. */
static void *arm_amid_a_drain(void *arg)
{
	struct armed *it = arg;

	while (is_in(it->epfd, it->idle))
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	set_on(it->epfd, EPOLL_CTL_MOD, it->fd, ONCE_ONLY);
	set_on(it->epfd, EPOLL_CTL_MOD, it->listener, ONCE_ONLY);
	return NULL;
}

/* A request that is not answered makes the drain last until its time is over. */
TEST(what_was_armed_amid_a_drain_that_is_called_off_is_told_of, ONCE, "WARNS=1;CPR_DRAIN=1")
{
	struct armed it = {.epfd = MUST(epoll_create1(EPOLL_CLOEXEC)),
			   .listener = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM)};
	pthread_t thread;
	int slow;

	it.fd = told_and_answered(it.epfd, it.listener);
	set_on(it.epfd, EPOLL_CTL_ADD, it.listener, ONCE_ONLY);
	CHECK(is_connection(ask("connect tcp 127.0.0.1 %d", port(0))));
	tells(it.epfd, it.listener);
	it.idle = MUST(accept4(it.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
	asks(1);
	answer(it.idle, 1);
	set_on(it.epfd, EPOLL_CTL_ADD, it.idle, EPOLLIN);
	slow = client(it.listener, 2);
	asks(2);
	read_request(slow);
	CHECK_INT(pthread_create(&thread, NULL, arm_amid_a_drain, &it), 0);
	restart_is_called_off(busy_program());
	CHECK_INT(pthread_join(thread, NULL), 0);
	CHECK(is_in(it.epfd, it.idle));
	asks(0);
	tells(it.epfd, it.fd);
	answer(it.fd, 0);
	CHECK(is_connection(ask("connect tcp 127.0.0.1 %d", port(0))));
	tells(it.epfd, it.listener);
}
