/* SPDX-License-Identifier: MIT */
/* Sockets and descriptors, for the programs of tests/wrap. */
#ifndef SOCKETS_H
#define SOCKETS_H

#include "wrap.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	};
	socklen_t len;
};

static inline struct address inet4(const char *host, int at)
{
	struct address a = {.in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)at)}, .len = sizeof(a.in)};

	CHECK(inet_pton(AF_INET, host, &a.in.sin_addr) == 1);
	return a;
}

static inline struct address inet6(const char *host, int at)
{
	struct address a = {.in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)at)}, .len = sizeof(a.in6)};

	CHECK(inet_pton(AF_INET6, host, &a.in6.sin6_addr) == 1);
	return a;
}

static inline struct address local(const char *path)
{
	struct address a = {.un = {.sun_family = AF_UNIX}};

	CHECK(strlen(path) < sizeof(a.un.sun_path));
	strcpy(a.un.sun_path, path);
	a.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
	return a;
}

static inline struct address abstract(const char *name, size_t n)
{
	struct address a = {.un = {.sun_family = AF_UNIX}};

	memcpy(a.un.sun_path + 1, name, n);
	a.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n);
	return a;
}

static inline void set_option(int fd, int level, int name, int value)
{
	MUST(setsockopt(fd, level, name, &value, sizeof(value)));
}

static inline int get_option(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	MUST(getsockopt(fd, level, name, &value, &len));
	return value;
}

/*
 * A socket of the address's family; close-on-exec unless said otherwise, so that a self-exec does not inherit it by
 * itself.
 */
static inline int socket_for(const struct address *a, int type)
{
	int fd = MUST(socket(a->any.sa_family, type | SOCK_CLOEXEC, 0));

	if (a->any.sa_family != AF_UNIX && (type & 0xf) == SOCK_STREAM)
		set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (a->any.sa_family == AF_INET6)
		set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	return fd;
}

static inline int bound(struct address a, int type)
{
	int fd = socket_for(&a, type);

	MUST(bind(fd, &a.any, a.len));
	return fd;
}

static inline int listening(struct address a, int type)
{
	int fd = bound(a, type);

	MUST(listen(fd, 16));
	return fd;
}

/* A stream listener with an option that is set before it is bound. */
static inline int listening_with(struct address a, int level, int name, int value)
{
	int fd = socket_for(&a, SOCK_STREAM);

	set_option(fd, level, name, value);
	MUST(bind(fd, &a.any, a.len));
	MUST(listen(fd, 16));
	return fd;
}

static inline int try_connect(struct address a, int type)
{
	int fd = MUST(socket(a.any.sa_family, type | SOCK_CLOEXEC, 0));
	int r = connect(fd, &a.any, a.len), saved_errno = errno;

	if (r) {
		close(fd);
		errno = saved_errno;
	}
	return r ? -1 : fd;
}

static inline int port_of(int fd)
{
	struct address a = {.len = sizeof(a.in6)};

	MUST(getsockname(fd, &a.any, &a.len));
	return ntohs(a.any.sa_family == AF_INET ? a.in.sin_port : a.in6.sin6_port);
}

static inline long inode_of(int fd)
{
	struct stat st;

	MUST(fstat(fd, &st));
	return (long)st.st_ino;
}

static inline long inode_at(const char *path)
{
	struct stat st;

	MUST(stat(path, &st));
	return (long)st.st_ino;
}

static inline bool is_cloexec(int fd)
{
	return MUST(fcntl(fd, F_GETFD)) & FD_CLOEXEC;
}

static inline bool has_status(int fd, int flag)
{
	return MUST(fcntl(fd, F_GETFL)) & flag;
}

/* The runner's answer to "connect": the number of a connection, or an error's name. */
static inline bool is_connection(const char *answer)
{
	return isdigit((unsigned char)*answer);
}

/* Is this number open, even if it is hidden? /proc tells. */
static inline bool really_open(int fd)
{
	char link[64], target[256];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	return readlink(link, target, sizeof(target)) > 0;
}

/* Does this process hold a socket of this inode at any number? */
static inline bool really_holds(long inode)
{
	char wanted[64], link[64], target[256];
	ssize_t n;

	snprintf(wanted, sizeof(wanted), "socket:[%ld]", inode);
	for (int fd = 0; fd < 2048; fd++) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
		if (!strcmp(target, wanted))
			return true;
	}
	return false;
}

/*
 * Marks an open file description: two descriptors of one description share what F_SETSIG says, and a second open of the
 * path does not.
 */
static inline void mark(int fd)
{
	MUST(fcntl(fd, F_SETSIG, SIGRTMIN + 7));
}

static inline bool is_marked(int fd)
{
	return fcntl(fd, F_GETSIG) == SIGRTMIN + 7;
}

static inline void write_text(int fd, const char *text)
{
	CHECK_INT(write(fd, text, strlen(text)), strlen(text));
}

/* What is read from fd is this. */
static inline void check_text(int fd, const char *text)
{
	char got[256] = "";
	ssize_t n = read(fd, got, sizeof(got) - 1);

	CHECK(n >= 0);
	got[n] = '\0';
	if (strcmp(got, text)) {
		dprintf(STDERR_FILENO, "read \"%s\", expected \"%s\"\n", got, text);
		CHECK(!"the same text");
	}
}

#endif
