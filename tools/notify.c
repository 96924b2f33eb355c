/* SPDX-License-Identifier: MIT */
/* sd_notify(3): receives messages of generations for their manager, and passes them on to ours. */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MESSAGE_SIZE = 8192, SENDERS = 64 };

static socklen_t parse_address(const char *name, struct sockaddr_un *addr)
{
	size_t n = strlen(name);

	if ((*name != '/' && *name != '@') || n >= sizeof(addr->sun_path))
		return 0;
	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(addr->sun_path, name, n);
	if (*name == '@')
		addr->sun_path[0] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (*name == '/'));
}

/* Where its generations say it, and where we do. */
static void note_addresses(struct supervisor *s)
{
	static char name[64];

	snprintf(name, sizeof(name), "@cpr-notify.%llx", (unsigned long long)s->recipe.nonce);
	s->recipe.notify = name;
	s->notify.manager = getenv("NOTIFY_SOCKET") ? strdup(getenv("NOTIFY_SOCKET")) : NULL;
}

/* Returns how often the manager expects WATCHDOG=1, in ns: twice as often as it has to be. 0: it does not. */
static int64_t watchdog_interval(const struct supervisor *s)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

	return s->notify.manager && usec && (!pid || atol(pid) == getpid()) ? strtoll(usec, NULL, 10) * 1000 / 2 : 0;
}

static void begin_watchdog(struct supervisor *s)
{
	s->notify.watchdog_at = watchdog_interval(s) ? io_now() : 0;
}

int notify_open(struct supervisor *s)
{
	cleanup_fd int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr;
	const int on = 1;

	note_addresses(s);
	if (sock < 0 || setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) ||
	    bind(sock, (struct sockaddr *)&addr, parse_address(s->recipe.notify, &addr)))
		return -errno;
	s->notify.sock = steal_fd(&sock);
	begin_watchdog(s);
	return 0;
}

void notify_resume(struct supervisor *s)
{
	note_addresses(s);
	begin_watchdog(s);
}

static void attach(struct msghdr *message, void *room, size_t size, int fd)
{
	struct cmsghdr *head;

	message->msg_control = room;
	message->msg_controllen = size;
	head = CMSG_FIRSTHDR(message);
	*head = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(fd)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(head), &fd, sizeof(fd));
}

/* To the manager of ours, if there is one; with a descriptor, unless that is -1. */
static void tell(const struct supervisor *s, const char *text, size_t n, int fd, int flags)
{
	const struct timeval patience = {.tv_sec = 1};
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	cleanup_fd int sock = -1;
	struct sockaddr_un addr;
	struct iovec bytes = {(char *)text, n};
	struct msghdr message = {.msg_name = &addr, .msg_iov = &bytes, .msg_iovlen = 1};

	message.msg_namelen = s->notify.manager ? parse_address(s->notify.manager, &addr) : 0;
	if (!message.msg_namelen || !n)
		return;
	if (fd >= 0)
		attach(&message, &control, sizeof(control), fd);
	sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return;
	setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	sendmsg(sock, &message, MSG_NOSIGNAL | flags);
}

/* The server's messages: the supervisor does not wait until the manager takes them. */
static void pass_on(const struct supervisor *s, const char *text, size_t n)
{
	tell(s, text, n, -1, MSG_DONTWAIT);
}

/* Ours, and descriptors: the manager's queue holds ten messages by default, so these wait for room in it. */
void notify_send(const struct supervisor *s, const char *text, size_t n, int fd)
{
	tell(s, text, n, fd, 0);
}

void notify_phase(struct supervisor *s, const char *word)
{
	char text[256];
	struct text t = TEXT_ON(text);
	uint32_t connections;
	size_t draining = lives_draining(s, &connections);

	if (!s->notify.said_ready)
		return;
	text_format(&t, "%s=1\n", word);
	if (!strcmp(word, "RELOADING")) /* the same clock as the manager's */
		text_format(&t, "MONOTONIC_USEC=%lld\n", (long long)(io_now() / 1000));
	if (s->serving)
		text_format(&t, "STATUS=generation %d, %zu draining\n", s->serving->number, draining);
	notify_send(s, text, t.used, -1);
}

void notify_more_time(const struct supervisor *s, int seconds)
{
	char text[64];
	struct text t = TEXT_ON(text);

	text_format(&t, "EXTEND_TIMEOUT_USEC=%lld\n", seconds * 1000000LL);
	notify_send(s, text, t.used, -1);
}

/* ---- the watchdog ---- */

int64_t notify_due(const struct supervisor *s)
{
	return s->notify.watchdog_at;
}

/* A server that pings its manager itself is to be killed when it hangs: for that one we say nothing. */
void notify_tick(struct supervisor *s, int64_t now)
{
	static const char alive[] = "WATCHDOG=1\n";

	if (!s->notify.watchdog_at || now < s->notify.watchdog_at)
		return;
	s->notify.watchdog_at = now + watchdog_interval(s);
	if (!s->serving || !s->serving->pings)
		tell(s, alive, sizeof(alive) - 1, -1, MSG_DONTWAIT);
}

void notify_failed(struct supervisor *s, int error)
{
	char text[256];
	struct text t = TEXT_ON(text);

	if (!s->notify.manager)
		note_addresses(s);
	text_format(&t, "ERRNO=%d\nSTATUS=the supervisor cannot start: %s\n", error, strerror(error));
	notify_send(s, text, t.used, -1);
}

void notify_end(const struct supervisor *s)
{
	char text[128];
	struct text t = TEXT_ON(text);
	int status = WIFEXITED(s->status) ? WEXITSTATUS(s->status) : 0;

	if (!status)
		return;
	text_format(&t, "EXIT_STATUS=%d\nSTATUS=the server ended with status %d\n", status, status);
	notify_send(s, text, t.used, -1);
}

void notify_ready(struct supervisor *s)
{
	if (s->notify.said_ready)
		return;
	s->notify.said_ready = true;
	notify_phase(s, "READY");
}

static bool begins(const char *line, const char *word)
{
	return !strncmp(line, word, strlen(word));
}

/* The main process is the supervisor, and its server is ready once: whatever else is said is the manager's. */
static void take(struct supervisor *s, struct generation *g, char *text)
{
	char others[MESSAGE_SIZE];
	struct text t = TEXT_ON(others);
	bool ready = false;
	char *line;

	while ((line = strsep(&text, "\n"))) {
		ready |= !strcmp(line, "READY=1");
		g->pings |= !strcmp(line, "WATCHDOG=1");
		if (!*line || begins(line, "READY=") || begins(line, "MAINPID=") || begins(line, "FDSTORE") ||
		    begins(line, "BARRIER="))
			continue;
		text_add(&t, line);
		text_add(&t, "\n");
	}
	if (ready)
		reports_notified(s, g);
	if (g == s->serving && !t.cut)
		pass_on(s, t.bytes, t.used);
}

static void close_passed(struct msghdr *message)
{
	for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR(message, head))
		for (size_t at = 0; head->cmsg_type == SCM_RIGHTS && at + sizeof(int) <= head->cmsg_len - CMSG_LEN(0);
		     at += sizeof(int)) {
			int fd;

			memcpy(&fd, CMSG_DATA(head) + at, sizeof(fd));
			close(fd);
		}
}

static pid_t sender(struct msghdr *message)
{
	struct ucred who = {0};

	for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR(message, head))
		if (head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_CREDENTIALS)
			memcpy(&who, CMSG_DATA(head), sizeof(who));
	return who.pid;
}

void notify_hear(struct supervisor *s)
{
	char text[MESSAGE_SIZE];
	union {
		char room[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(SENDERS * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec bytes = {text, sizeof(text) - 1};
	struct msghdr message = {
		.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(s->notify.sock, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct generation *g;

	if (n < 0)
		return;
	close_passed(&message);
	text[n] = '\0';
	g = generation_find(s->generations, sender(&message));
	if (g && !(message.msg_flags & MSG_TRUNC))
		take(s, g, text);
}
