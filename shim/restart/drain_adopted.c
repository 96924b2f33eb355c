/* SPDX-License-Identifier: MIT */
/* Listeners that were the workers' alone. */
#define _GNU_SOURCE
#include "restart/drain_adopted.h"

#include "base/full.h"
#include "base/io.h"
#include "base/next.h"
#include "base/raw.h"
#include "base/room.h"
#include "fd/tagging.h"
#include "model/protocol.h"
#include "process/guard.h"

#include <string.h>
#include <sys/socket.h>

enum { ADOPTED_MAX = 1024 };

static cpr_large int adopted[ADOPTED_MAX];
static size_t adopted_count;

void drain_adopted_begin(void)
{
	adopted_count = 0;
}

static bool is_known(const struct object *object)
{
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (e->object.ino == object->ino && e->object.dev == object->dev)
			return true;
	return false;
}

/* What the program asked for, and what the kernel has bound: port 0 stands for any. */
static bool is_named_so(const char *name, char *bound)
{
	char *port = strrchr(bound, ':');

	if (tag_is_any_port(name) && port)
		memcpy(port, ":0", sizeof(":0"));
	return !strcmp(name, bound);
}

/*
 * Is the socket what the worker describes? A worker may have fewer rights than the next generation, which finds its
 * sockets by these names. It could replace one by a socket of its own that it could not have bound there.
 */
static bool is_what_it_says(int fd, const struct object *object, const struct drain_worker_message *message)
{
	bool stream = message->kind == ENTRY_STREAM;
	struct sockaddr_storage here = {0};
	socklen_t len = sizeof(here), int_len = sizeof(int);
	cleanup_room char *bound = room_take();
	int listens = 0;

	if (!bound || object->domain < 0 ||
	    (stream ? object->type == SOCK_DGRAM : message->kind != ENTRY_DATAGRAM || object->type == SOCK_STREAM))
		return false;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &int_len) ||
	    (stream && message->flags & ENTRY_LISTENING && !listens))
		return false;
	return !next_getsockname(fd, (struct sockaddr *)&here, &len) &&
	       !tag_socket(object, (struct sockaddr *)&here, len, bound) && is_named_so(message->name, bound);
}

void drain_adopt(int fd, const struct drain_worker_message *message)
{
	struct guard_hold hold;
	struct object object;
	struct entry *e;
	bool taken = false;

	if (adopted_count == ADOPTED_MAX)
		full_note(FULL_ADOPTED, ADOPTED_MAX);
	if (adopted_count < ADOPTED_MAX && !object_of(fd, &object) && is_what_it_says(fd, &object, message) &&
	    guard_lock(&hold)) {
		fd = io_move_up(fd, PROTOCOL_HIGH);
		taken = message->name[0] && !is_known(&object) && !table_add_next(cpr__table, message->name, fd, &e);
		if (taken) {
			e->kind = message->kind;
			e->flags = message->flags & ENTRY_SAVED_FLAGS & ~(unsigned)(ENTRY_ORPHAN | ENTRY_INHERITED);
			e->backlog = message->backlog;
			e->path_dev = message->path_dev;
			e->path_ino = message->path_ino;
			e->object = object;
			adopted[adopted_count++] = fd;
		}
		guard_unlock(&hold);
	}
	if (!taken)
		raw_close(fd);
}

void drain_adopted_give_back(void)
{
	struct guard_hold hold;

	if (!adopted_count || !guard_lock(&hold))
		return;
	while (adopted_count) {
		int fd = adopted[--adopted_count];

		table_forget_fd(cpr__table, fd);
		raw_close(fd);
	}
	guard_unlock(&hold);
}
