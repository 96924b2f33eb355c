/* SPDX-License-Identifier: MIT */
/* What the program does behind its gate beside waiting: it closes doors and asks again, it moves and removes paths. */
#define _GNU_SOURCE
#include "fd/gate_inside.h"

#include "base/io.h"
#include "base/raw.h"
#include "base/room.h"
#include "fd/entry.h"
#include "process/roster.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- doors that are closed, and paths that are moved ---- */

static bool is_waiting(const struct entry *hidden, const char *name)
{
	return gate_hides(hidden) && !strcmp(hidden->name + strlen(GATE_NAME), name) && !gate_shown_of(hidden);
}

/* False: nothing has changed. A door of that tag is there, and is an orphan itself. */
static bool revive(struct entry *hidden)
{
	cleanup_room char *room = room_take();
	const struct entry was = *hidden;
	struct text t = text_on(room, ROOM_SIZE);
	struct entry *e;

	if (!room)
		return false;
	text_add(&t, hidden->name + strlen(GATE_NAME));
	e = table_find(cpr__table, room, was.id);
	if (e && e->flags & ENTRY_ORPHAN)
		return false;
	if (e) /* its door was closed behind our back */
		table_remove(cpr__table, e);
	table_remove(cpr__table, hidden);
	if (table_add(cpr__table, room, was.id, was.fd, &e)) {
		raw_close(was.fd);
		return true;
	}
	e->object = was.object;
	e->kind = was.kind;
	e->path_dev = was.path_dev;
	e->path_ino = was.path_ino;
	entry_look_at_socket(e, was.backlog);
	table_make_orphan(cpr__table, e);
	return true;
}

bool gate_revive(const char *name)
{
	struct entry *e;
	bool any = false;

	if (!gate_claims() || !gate_is_closed || !roster_elect())
		return false;
	for (e = table_first(cpr__table); e;) {
		if (is_waiting(e, name) && revive(e)) {
			any = true;
			e = table_first(cpr__table); /* the next one may be gone */
		} else {
			e = table_after(e);
		}
	}
	return any;
}

struct entry *gate_behind(const struct entry *e)
{
	return gate_is_closed ? gate_hidden_of(e) : NULL;
}

void gate_renamed(struct entry *hidden, const struct entry *e)
{
	const struct entry was = *hidden;

	table_remove(cpr__table, hidden);
	if (!gate_hide(e, was.fd, &was.object))
		raw_close(was.fd);
}

void gate_replaced(struct entry *hidden, struct entry *e)
{
	raw_close(hidden->fd);
	table_remove(cpr__table, hidden);
	gate_add_door(e);
}

/* ---- paths that are removed ---- */

/* A pid file that names another process than this family's: a next generation has written it. */
static bool is_pid_file_of_another(const char *path, const struct stat *st)
{
	char bytes[16];
	int pid = 0;

	if (!S_ISREG(st->st_mode) || !st->st_size || st->st_size >= (off_t)sizeof(bytes) ||
	    io_read_file(path, bytes, sizeof(bytes)) <= 0)
		return false;
	for (const char *at = bytes; *at && *at != '\n'; at++) {
		if (*at < '0' || *at > '9' || pid > 100000000)
			return false;
		pid = pid * 10 + (*at - '0');
	}
	return pid && pid != getpid() && pid != roster_owner();
}

/* A second name of the socket's file, as haproxy links it while it binds: the first one stays. */
static bool is_second_name(const struct entry *hidden, const char *path, const struct stat *st)
{
	const char *first = strrchr(hidden->name, '/'), *second = strrchr(path, '/');

	return st->st_nlink > 1 && first && second && strcmp(first, second);
}

bool gate_guards_path(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return false;
	if (gate_has_left && is_pid_file_of_another(path, &st))
		return true;
	if (gate_left_path(st.st_dev, st.st_ino))
		return true;
	for (const struct entry *e = gate_is_closed ? table_first(cpr__table) : NULL; e; e = table_after(e))
		if (gate_hides(e) && e->path_ino == st.st_ino && e->path_dev == st.st_dev)
			return !is_second_name(e, path, &st);
	return false;
}
