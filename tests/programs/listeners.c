/* SPDX-License-Identifier: MIT */
/*
 * Tells on every connection, and to every datagram, which process it is: listeners tcp:PORT|reuse:PORT|udp:PORT|
 * unix:PATH|hold:PORT... What comes on a connection of hold: is never read, and the connection is kept. With a last
 * word lock:PATH it serves when it has the lock on that file, as etcd does, and says READY=1 then.
 * SIGHUP: it closes the first one and opens it again; SIGTERM: as Go's servers it removes the files of its sockets.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { LISTENERS_MAX = 16 };

static struct pollfd on[LISTENERS_MAX];
static volatile sig_atomic_t ends, again;

static void told(int signo)
{
	if (signo == SIGTERM)
		ends = 1;
	else
		again = 1;
}

static int open_inet(const char *port, int type, int reuse)
{
	const struct sockaddr_in address = {.sin_family = AF_INET,
					    .sin_port = htons((unsigned short)atoi(port)),
					    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const int yes = 1;
	int sock = socket(AF_INET, type | SOCK_NONBLOCK, 0);

	if (type == SOCK_STREAM)
		setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (reuse)
		setsockopt(sock, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof(yes));
	return bind(sock, (const struct sockaddr *)&address, sizeof(address)) ? -1 : sock;
}

static int open_unix(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	unlink(path);
	return bind(sock, (const struct sockaddr *)&address, sizeof(address)) ? -1 : sock;
}

static int open_one(const char *word)
{
	const char *where = strchr(word, ':') + 1;
	int is_udp = !strncmp(word, "udp:", 4);
	int sock = !strncmp(word, "unix:", 5) ? open_unix(where)
					      : open_inet(where, is_udp ? SOCK_DGRAM : SOCK_STREAM, *word == 'r');

	if (sock < 0 || (!is_udp && listen(sock, 64))) {
		perror(word);
		exit(1);
	}
	return sock;
}

static void answer(int sock, int is_udp, int holds)
{
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	char text[32];
	int size = snprintf(text, sizeof(text), "%d\n", (int)getpid()), fd;

	if (is_udp) {
		if (recvfrom(sock, text + size, 1, 0, (struct sockaddr *)&from, &len) >= 0)
			sendto(sock, text, (size_t)size, 0, (struct sockaddr *)&from, len);
		return;
	}
	fd = accept(sock, NULL, NULL);
	if (holds && fd >= 0 && write(fd, text, (size_t)size) == size)
		return;
	if (fd >= 0 && write(fd, text, (size_t)size) == size)
		shutdown(fd, SHUT_WR);
	close(fd);
}

static void reopen(const char *word)
{
	again = 0;
	close(on[0].fd);
	on[0].fd = open_one(word);
}

static void say_ready(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *path = getenv("NOTIFY_SOCKET");
	int sock = socket(AF_UNIX, SOCK_DGRAM, 0);
	size_t len = strlen(path);

	memcpy(address.sun_path, path, len);
	if (*path == '@')
		*address.sun_path = '\0';
	len += offsetof(struct sockaddr_un, sun_path);
	sendto(sock, "READY=1", 7, 0, (struct sockaddr *)&address, (socklen_t)len);
	close(sock);
}

static void lock(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600);

	while (!ends && flock(fd, LOCK_EX | LOCK_NB))
		usleep(5000);
	say_ready();
}

int main(int argc, char **argv)
{
	const char *locked = argc > 1 && !strncmp(argv[argc - 1], "lock:", 5) ? argv[--argc] + 5 : NULL;
	sigset_t blocked, none;

	sigemptyset(&none);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigaddset(&blocked, SIGHUP);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	signal(SIGTERM, told);
	signal(SIGHUP, told);
	for (int i = 1; i < argc && i <= LISTENERS_MAX; i++)
		on[i - 1] = (struct pollfd){.fd = open_one(argv[i]), .events = POLLIN};
	if (locked)
		lock(locked);
	while (!ends) {
		if (again)
			reopen(argv[1]);
		if (ppoll(on, (nfds_t)argc - 1, NULL, &none) < 0)
			continue;
		for (int i = 1; i < argc; i++)
			if (on[i - 1].revents)
				answer(on[i - 1].fd, !strncmp(argv[i], "udp:", 4), !strncmp(argv[i], "hold:", 5));
	}
	for (int i = 1; i < argc; i++)
		if (!strncmp(argv[i], "unix:", 5))
			unlink(argv[i] + 5);
	return 0;
}
