/* SPDX-License-Identifier: MIT */
/* Genuine: a descriptor that a generation gives against the kernel's own words of it. */
#define _GNU_SOURCE
#include "genuine.h"

#include "sockfile.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

static const char *last_part(const char *name)
{
	const char *slash = strrchr(name, '/');

	return slash ? slash + 1 : name;
}

bool genuine_name(const char *tag, const char *kernel)
{
	const char *port = strrchr(tag, ':');

	if (!strcmp(tag, kernel))
		return true;
	if (!strncmp(tag, "unix", 4))
		return !strncmp(kernel, "unix", 4) &&
		       !strcmp(last_part(strchr(tag, ':') + 1), last_part(strchr(kernel, ':') + 1)) &&
		       strncmp(strchr(kernel, ':'), ":/", 2);
	return port && !strcmp(port, ":0") && !strncmp(tag, kernel, (size_t)(port - tag) + 1);
}

/*
 * A socket may be bound under a temporary name and then moved to the tag's path (haproxy's). The kernel still has the
 * temporary name. So is the file at that path this socket's? Only then do clients of that path reach it, and only a
 * process that may write the directory can have put it there.
 */
static bool was_moved_to(const char *tag, int fd)
{
	const char *path = strchr(tag, ':') + 1;
	struct stat st;

	return !strncmp(tag, "unix", 4) && *path == '/' && !lstat(path, &st) && S_ISSOCK(st.st_mode) &&
	       sockfile_is(fd, &st);
}

static bool socket_fits(const struct entry *e, const struct object *object, int fd)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address), flag_len = sizeof(int);
	char kernel[TAG_NAME_MAX + 1];
	int listens = 0;

	if (e->flags & ENTRY_LISTENING && (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &flag_len) || !listens))
		return false;
	if (e->kind == ENTRY_API)
		return true;
	return !getsockname(fd, (struct sockaddr *)&address, &len) &&
	       !tag_socket(object, (struct sockaddr *)&address, len, kernel) &&
	       (genuine_name(e->name, kernel) || was_moved_to(e->name, fd));
}

/* dev:, fifo:, file: and a path, which must still lead there. */
static bool path_fits(const struct entry *e, const struct object *object)
{
	const char *path = strchr(e->name, ':');
	struct stat st;

	return path && path[1] == '/' && !stat(path + 1, &st) && (uint64_t)st.st_dev == object->dev &&
	       (uint64_t)st.st_ino == object->ino;
}

bool genuine_is(const struct entry *e, int fd)
{
	struct object object;

	if (object_of(fd, &object) || !object_same(&object, &e->object))
		return false;
	if (object.domain >= 0)
		return (e->kind == ENTRY_STREAM || e->kind == ENTRY_DATAGRAM || e->kind == ENTRY_API) &&
		       socket_fits(e, &object, fd);
	if (e->kind == ENTRY_STREAM || e->kind == ENTRY_DATAGRAM)
		return false;
	return e->kind == ENTRY_API || e->kind == ENTRY_MEMFD || path_fits(e, &object);
}
