/* SPDX-License-Identifier: MIT */
/* Doors: made, and bound where only the supervisor knows. */
#define _GNU_SOURCE
#include "fd/door.h"

#include "base/io.h"
#include "base/next.h"
#include "base/raw.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/un.h>
#include <unistd.h>

int door_bind(int fd, const struct object *object)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	if (object->domain == AF_UNIX) /* the kernel finds an abstract name */
		return next_bind(fd, (struct sockaddr *)&un, sizeof(sa_family_t)) ? -errno : 0;
	if (object->domain == AF_INET)
		return next_bind(fd, (struct sockaddr *)&in, sizeof(in)) ? -errno : 0;
	if (object->domain != AF_INET6)
		return -EAFNOSUPPORT;
	if (!next_bind(fd, (struct sockaddr *)&in6, sizeof(in6)))
		return 0;
	/* ::ffff:127.0.0.1 */
	in6.sin6_addr = (struct in6_addr){.s6_addr = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
	return next_bind(fd, (struct sockaddr *)&in6, sizeof(in6)) ? -errno : 0;
}

int door_make(const struct object *like, bool nonblock)
{
	cleanup_fd int fd =
		next_socket(like->domain, like->type | SOCK_CLOEXEC | (nonblock ? SOCK_NONBLOCK : 0), like->protocol);
	int r = fd < 0 ? -errno : door_bind(fd, like);

	if (!r && like->type != SOCK_DGRAM && next_listen(fd, DOOR_BACKLOG))
		r = -errno;
	return r ? r : steal_fd(&fd);
}

/* A pipe of which each reader is a writer too, and so never sees an end. */
int door_make_silent_pipe(bool nonblock)
{
	char path[32];
	struct text t = TEXT_ON(path);
	int pair[2], fd;

	if (next_sys(SYS_pipe2, pair, O_CLOEXEC))
		return -errno;
	text_format(&t, "/proc/self/fd/%d", pair[0]);
	fd = raw_open(path, O_RDWR | O_CLOEXEC | (nonblock ? O_NONBLOCK : 0), 0);
	if (fd < 0)
		fd = -errno;
	raw_close(pair[0]);
	raw_close(pair[1]);
	return fd;
}
