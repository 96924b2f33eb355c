/* SPDX-License-Identifier: MIT */
/* One look at a generation's health, in a child: a slow answer must not hold the supervisor up. */
#define _GNU_SOURCE
#include "health.h"

#include "base/attr.h"
#include "base/io.h"

#include <arpa/inet.h>
#include <bsd/stdlib.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_S = 5, ADDRESS_SIZE = 128 };

/* The door's parts, as the command gets them. */
struct door {
	char host[ADDRESS_SIZE], port[8], path[ADDRESS_SIZE];
	struct sockaddr_storage address;
	socklen_t len;
};

int health_parse(char *word, struct health *health)
{
	char *equals = strrchr(word, '=');
	const char *error = NULL;
	long long status = 0;

	if (*word != '/' || strpbrk(word, " \t\r\n"))
		return -EINVAL;
	if (equals) {
		status = strtonum(equals + 1, 100, 599, &error);
		if (error || strlen(equals + 1) != 3)
			return -EINVAL;
		*equals = '\0';
	}
	health->path = word;
	health->status = (int)status;
	return 0;
}

/* ---- the address ---- */

static bool parse_unix(const char *name, struct door *door)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&door->address;
	size_t n = strlen(name);

	if (!n || n >= sizeof(un->sun_path) || n >= sizeof(door->path))
		return false;
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, name, n);
	door->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (*name != '@'));
	if (*name == '@')
		un->sun_path[0] = '\0';
	strcpy(door->path, name);
	return true;
}

static bool parse_inet(const char *name, struct door *door)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&door->address;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&door->address;
	const char *colon = strrchr(name, ':'), *error;
	bool six = *name == '[';
	size_t n = colon ? (size_t)(colon - name) : 0;
	long long port = colon ? strtonum(colon + 1, 1, 65535, &error) : 0;

	if (port <= 0 || n >= sizeof(door->host) || n < 2)
		return false;
	memcpy(door->host, name + six, n - 2 * six);
	door->host[n - 2 * six] = '\0';
	snprintf(door->port, sizeof(door->port), "%u", (unsigned)port & 0xffff);
	if (six) {
		*in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
		door->len = sizeof(*in6);
		return inet_pton(AF_INET6, door->host, &in6->sin6_addr) == 1;
	}
	*in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	door->len = sizeof(*in);
	return inet_pton(AF_INET, door->host, &in->sin_addr) == 1;
}

static bool parse_door(const char *name, struct door *door)
{
	*door = (struct door){.len = 0};
	if (!strncmp(name, "unix:", 5))
		return parse_unix(name + 5, door);
	return !strncmp(name, "tcp:", 4) && parse_inet(name + 4, door);
}

/* ---- in the child ---- */

__attribute__((noreturn, format(printf, 1, 2))) static void unhealthy(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vdprintf(STDERR_FILENO, format, args);
	va_end(args);
	_exit(1);
}

static void ask_http(const struct health *health, const struct door *door)
{
	cleanup_fd int sock = socket(door->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval patience = {.tv_sec = PATIENCE_S};
	char answer[64];
	ssize_t used = 0, n;
	int status = 0;

	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (sock < 0 || connect(sock, (const struct sockaddr *)&door->address, door->len))
		unhealthy("%s: connect: %s", health->path, strerror(errno));
	if (dprintf(sock, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: cpr\r\nAccept: */*\r\nConnection: close\r\n\r\n",
		    health->path, *door->host ? door->host : "localhost") < 0)
		unhealthy("%s: write: %s", health->path, strerror(errno));
	while (used < (ssize_t)sizeof(answer) - 1 &&
	       (n = read(sock, answer + used, sizeof(answer) - 1 - (size_t)used)) > 0)
		used += n;
	answer[used] = '\0';
	if (sscanf(answer, "HTTP/%*1[12].%*1[01] %3d", &status) != 1 && sscanf(answer, "HTTP/%*1[2] %3d", &status) != 1)
		unhealthy("%s: no HTTP answer%s", health->path,
			  used                       ? ""
			  : n < 0 && errno == EAGAIN ? " in 5 s"
						     : ", the connection ended");
	if (health->status ? status != health->status : status < 200 || status > 299)
		unhealthy("%s: answered %d", health->path, status);
}

__attribute__((noreturn)) static void run_command(const struct health *health, const struct door *door,
						  const sigset_t *mask)
{
	if (*door->path) {
		setenv("CPR_DOOR_PATH", door->path, 1);
	} else {
		setenv("CPR_DOOR_ADDRESS", door->host, 1);
		setenv("CPR_DOOR_PORT", door->port, 1);
	}
	sigprocmask(SIG_SETMASK, mask, NULL);
	execl("/bin/sh", "sh", "-c", health->command, (char *)NULL);
	unhealthy("/bin/sh: %s", strerror(errno));
}

__attribute__((noreturn)) static void look(const struct health *health, const char *name, const sigset_t *mask)
{
	struct door door;

	if (!parse_door(name, &door) && health->path)
		unhealthy("the generation has no stream listener whose door could be asked");
	if (health->path)
		ask_http(health, &door);
	if (health->command)
		run_command(health, &door, mask);
	_exit(0);
}

pid_t health_begin(const struct health *health, const char *door, const sigset_t *mask, int *output)
{
	cleanup_fd int memfd = io_memfd("health");
	int null;
	pid_t pid;

	if (memfd < 0)
		return memfd;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		null = open("/dev/null", O_RDONLY);
		if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(memfd, STDOUT_FILENO) < 0 ||
		    dup2(memfd, STDERR_FILENO) < 0)
			_exit(1);
		setenv("LD_PRELOAD", "", 1); /* a check is no server */
		look(health, door, mask);
	}
	*output = steal_fd(&memfd);
	return pid;
}

/* ---- what it said ---- */

void health_reason(int output, int status, struct text *why)
{
	char said[512];
	ssize_t n = -1;

	if (output >= 0 && !lseek(output, 0, SEEK_SET))
		n = io_read_all(output, said, sizeof(said) - 1);
	said[n > 0 ? n : 0] = '\0';
	said[strcspn(said, "\n")] = '\0';
	text_add(why, "the health check failed: ");
	if (*said)
		text_add(why, said);
	else if (WIFSIGNALED(status))
		text_format(why, "ended by signal %d", WTERMSIG(status));
	else
		text_format(why, "exit status %d", WEXITSTATUS(status));
}
