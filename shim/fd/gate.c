/* SPDX-License-Identifier: MIT */
/* Doors for listeners: made at bind(), exchanged when the gate opens or closes. */
#define _GNU_SOURCE
#include "fd/gate_inside.h"

#include "base/io.h"
#include "process/guard.h"
#include "base/log.h"
#include "base/next.h"
#include "base/pool.h"
#include "base/raw.h"
#include "fd/door.h"
#include "fd/tagging.h"
#include "model/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { SILENT_MAX = 16 };

_Atomic bool gate_is_closed;
_Atomic bool gate_has_left;
static bool claims; /* what is bound from here on gets a door */
static struct gate_hooks hooks;
static cpr_large char room[TAG_NAME_MAX + 1]; /* for a name; holding the guard */

/*
 * What stood at a number before the gate was closed; by number. It stays when the listener is given up: connections are
 * still known by it, and its path is another generation's.
 */
static struct left {
	int fd;
	uint64_t ino, path_dev, path_ino;
} *left;
static size_t left_count, left_room;

/*
 * ---- a listener behind the gate and its door: two entries with the same id, and names that show which belong together
 * ----
 */

bool gate_hides(const struct entry *e)
{
	return e->flags & ENTRY_ORPHAN && !strncmp(e->name, GATE_NAME, strlen(GATE_NAME));
}

struct entry *gate_hidden_of(const struct entry *e)
{
	struct text t = TEXT_ON(room);

	text_add(&t, GATE_NAME);
	text_add(&t, e->name);
	return t.cut ? NULL : table_find(cpr__table, room, e->id);
}

struct entry *gate_shown_of(const struct entry *hidden)
{
	struct entry *e = table_find(cpr__table, hidden->name + strlen(GATE_NAME), hidden->id);

	return e && (!(e->flags & ENTRY_ORPHAN) || e->flags & ENTRY_INHERITED) && object_still(&e->object, e->fd)
		       ? e
		       : NULL;
}

struct entry *gate_hide(const struct entry *e, int fd, const struct object *object)
{
	struct text t = TEXT_ON(room);
	struct entry *hidden;

	text_add(&t, GATE_NAME);
	text_add(&t, e->name);
	if (t.cut || table_add(cpr__table, room, e->id, fd, &hidden))
		return NULL;
	hidden->object = *object;
	hidden->kind = e->kind;
	hidden->backlog = e->backlog;
	hidden->path_dev = e->path_dev;
	hidden->path_ino = e->path_ino;
	hidden->flags |= ENTRY_KEPT; /* it goes on with the program's own exec */
	table_make_orphan(cpr__table, hidden);
	atomic_store(&gate_is_closed, true);
	return hidden;
}

/* ---- doors ---- */

static bool has_nonblock(int fd)
{
	return next_fcntl(fd, F_GETFL, NULL) & O_NONBLOCK;
}

static void set_nonblock(int fd, bool on)
{
	int flags = next_fcntl(fd, F_GETFL, NULL);

	if (flags >= 0 && !(flags & O_NONBLOCK) != !on)
		next_fcntl(fd, F_SETFL, (void *)(long)(on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}

/* To all numbers of e: what stands at `with`. */
static void put_over(struct entry *e, int with)
{
	for (int fd = e->fds > 1 ? table_next_fd(cpr__table, 0) : e->fd; fd >= 0;
	     fd = e->fds > 1 ? table_next_fd(cpr__table, fd + 1) : -1)
		if (table_by_fd(cpr__table, fd) == e)
			next_dup3(with, fd, next_fcntl(fd, F_GETFD, NULL) & FD_CLOEXEC ? O_CLOEXEC : 0);
}

/* ---- behind the gate from the start ---- */

void gate_begin(char **envp, const struct gate_hooks *given)
{
	const char *value = settings_env(envp, SETTINGS_GATE);
	char **to = envp;

	hooks = *given;
	claims = value && !strcmp(value, "closed");
	for (; envp && *envp; envp++)
		if (strncmp(*envp, SETTINGS_GATE "=", strlen(SETTINGS_GATE "=")))
			*to++ = *envp;
	if (to)
		*to = NULL;
}

bool gate_claims(void)
{
	return claims;
}

int gate_claim(struct entry *e, int fd, const struct object *fresh)
{
	struct object listener = e->object;
	int old = e->fd, r = door_bind(fd, fresh);

	if (r)
		return r;
	if (table_move(cpr__table, e, fd))
		return -ENOMEM;
	if (!gate_hide(e, old, &listener)) {
		table_move(cpr__table, e, old);
		return -ENOMEM;
	}
	e->object = *fresh;
	table_adopt(cpr__table, e);
	e->flags &= (uint16_t)~(ENTRY_INHERITED | ENTRY_CLOEXEC);
	if (e->path_ino)
		tagging_has_paths = true;
	log_debug("%s/%d waits behind the gate, its door is descriptor %d", e->name, e->id, fd);
	return 0;
}

bool gate_add_door(struct entry *e)
{
	struct object listener = e->object, door;
	cleanup_fd int high = -1, made = -1;

	if (!claims || e->flags & ENTRY_ORPHAN || e->kind != ENTRY_STREAM || !object_still(&e->object, e->fd) ||
	    gate_hidden_of(e))
		return false;
	made = door_make(&listener, has_nonblock(e->fd));
	high = next_fcntl(e->fd, F_DUPFD_CLOEXEC, NULL);
	if (made < 0 || high < 0 || object_of(made, &door))
		return false;
	high = io_move_up(high, PROTOCOL_HIGH);
	if (!gate_hide(e, high, &listener))
		return false;
	high = -1;
	put_over(e, made);
	e->object = door;
	return true;
}

void gate_listens(int fd)
{
	struct guard_hold hold;
	struct entry *e;
	int saved_errno = errno;

	if (likely(!claims))
		return;
	if (pending_any(fd))
		pending_resolve(fd);
	if (tagging_knows(fd) && guard_lock(&hold)) {
		e = table_by_fd(cpr__table, fd);
		if (e && !(e->flags & ENTRY_STARTED_WITH))
			gate_add_door(e);
		guard_unlock(&hold);
	}
	errno = saved_errno;
}

void gate_add_inherited(void)
{
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	for (struct entry *e = table_first(cpr__table); e; e = table_after(e)) {
		if (gate_hides(e))
			atomic_store(&gate_is_closed, true);
		else if (claims && e->flags & ENTRY_STARTED_WITH && e->flags & ENTRY_LISTENING)
			gate_add_door(e);
	}
	guard_unlock(&hold);
}

bool gate_has_door(const struct entry *e)
{
	return gate_is_closed && gate_hidden_of(e);
}

/* ---- opening ---- */

static bool gate_is_listening(const struct entry *e)
{
	return e->kind == ENTRY_STREAM && e->flags & ENTRY_LISTENING && !(e->flags & ENTRY_ORPHAN);
}

static void open_one(struct entry *hidden)
{
	struct entry *e = gate_shown_of(hidden);
	uint64_t door;
	bool nonblock;

	if (e) {
		door = e->object.ino;
		nonblock = has_nonblock(e->fd);
		put_over(e, hidden->fd);
		e->object = hidden->object;
		set_nonblock(e->fd, nonblock);
		hooks.exchanged(e->fd, door);
		if (gate_is_listening(e))
			/* clients that came while no generation accepted wait there: see gate_lower_backlogs */
			next_listen(e->fd, DOOR_BACKLOG);
		hooks.listens(e->name, e->fd);
	}
	raw_close(hidden->fd);
	table_remove(cpr__table, hidden);
}

size_t gate_open(void)
{
	struct entry *e, *after;
	struct guard_hold hold;
	int saved_errno = errno;
	size_t n = 0;

	if (!guard_lock(&hold))
		return 0;
	claims = false;
	hooks.begin();
	for (e = table_first(cpr__table); e; e = after) {
		after = table_after(e);
		if (!gate_hides(e))
			continue;
		open_one(e);
		n++;
	}
	hooks.end();
	left_count = 0;
	atomic_store(&gate_has_left, false);
	atomic_store(&gate_is_closed, false);
	guard_unlock(&hold);
	errno = saved_errno;
	return n;
}

void gate_lower_backlogs(void)
{
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (gate_is_listening(e) && e->backlog >= 0 && object_still(&e->object, e->fd))
			next_listen(e->fd, e->backlog);
	guard_unlock(&hold);
}

/* ---- closing ---- */

/* One silent door for all listeners that it can stand for. */
struct silent {
	int fd;
	struct object like, object;
	bool nonblock;
};

static struct silent *silent_for(struct silent *all, const struct entry *e)
{
	bool nonblock = has_nonblock(e->fd);
	struct silent *s = all;

	for (; s < all + SILENT_MAX && s->fd >= 0; s++)
		if (s->like.domain == e->object.domain && s->like.type == e->object.type &&
		    s->like.protocol == e->object.protocol && s->nonblock == nonblock)
			return s;
	if (s == all + SILENT_MAX) {
		errno = ENFILE;
		return NULL;
	}
	s->fd = e->kind == ENTRY_FIFO ? door_make_silent_pipe(nonblock) : door_make(&e->object, nonblock);
	if (s->fd < 0 || object_of(s->fd, &s->object)) {
		errno = s->fd < 0 ? -s->fd : EBADF;
		return NULL;
	}
	s->like = e->object;
	s->nonblock = nonblock;
	return s;
}

/* A client's datagram socket, bound to any port: what comes there is an answer to this process. */
static bool gate_is_clients(const struct entry *e)
{
	return e->kind == ENTRY_DATAGRAM && tag_is_any_port(e->name);
}

static bool has_a_gate(const struct entry *e)
{
	bool takes = (e->kind == ENTRY_STREAM && e->flags & ENTRY_LISTENING) ||
		     (e->kind == ENTRY_DATAGRAM && !gate_is_clients(e)) ||
		     (e->kind == ENTRY_FIFO && e->access != O_WRONLY);

	return takes && e->flags & (ENTRY_KEPT | ENTRY_STARTED_WITH) && !(e->flags & ENTRY_ORPHAN) &&
	       object_still(&e->object, e->fd);
}

static bool gate_make_room(void)
{
	size_t n = table_count(cpr__table) + 1;

	if (left_room < n) {
		left = pool_map(n * sizeof(*left)); /* an earlier one stays: a gate is not closed often */
		left_room = left ? n : 0;
	}
	return left;
}

static void note_left(const struct entry *e)
{
	size_t at = left_count++;

	for (; at && left[at - 1].fd > e->fd; at--)
		left[at] = left[at - 1];
	left[at] = (struct left){e->fd, e->object.ino, e->path_dev, e->path_ino};
}

static bool gate_close_one(struct entry *e, struct silent *all)
{
	struct silent *s = silent_for(all, e);
	int high = s ? next_fcntl(e->fd, F_DUPFD_CLOEXEC, NULL) : -1;

	if (high < 0)
		return false;
	high = io_move_up(high, PROTOCOL_HIGH);
	if (!gate_hide(e, high, &e->object)) {
		raw_close(high);
		errno = ENOMEM;
		return false;
	}
	note_left(e);
	put_over(e, s->fd);
	e->object = s->object;
	if (e->kind == ENTRY_STREAM)
		next_listen(high, DOOR_BACKLOG); /* clients queue there for a moment */
	return true;
}

int gate_close(void)
{
	struct silent all[SILENT_MAX];
	struct guard_hold hold;
	int saved_errno = errno, r = 0;

	for (size_t i = 0; i < SILENT_MAX; i++)
		all[i].fd = -1;
	if (!guard_lock(&hold))
		return -EAGAIN;
	tagging_check_all(false);
	left_count = 0;
	r = gate_make_room() ? 0 : -ENOMEM;
	hooks.begin();
	for (struct entry *e = table_first(cpr__table); e && !r; e = table_after(e))
		if (has_a_gate(e) && !gate_hidden_of(e) && !gate_close_one(e, all))
			r = -errno;
	hooks.end();
	atomic_store(&gate_has_left, true);
	for (size_t i = 0; i < SILENT_MAX; i++)
		io_close(&all[i].fd);
	guard_unlock(&hold);
	if (r)
		gate_open();
	errno = saved_errno;
	return r;
}

static _Atomic bool given_up;

bool gate_is_given_up(void)
{
	return atomic_load(&given_up);
}

void gate_forget(void)
{
	struct entry *e, *after;
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	for (e = table_first(cpr__table); e; e = after) {
		after = table_after(e);
		if (!gate_hides(e))
			continue;
		raw_close(e->fd);
		table_remove(cpr__table, e);
	}
	atomic_store(&gate_is_closed, false);
	atomic_store(&given_up, true);
	guard_unlock(&hold);
}

bool gate_left_path(uint64_t dev, uint64_t ino)
{
	for (size_t i = 0; i < left_count; i++)
		if (left[i].path_ino == ino && left[i].path_dev == dev)
			return true;
	return false;
}

uint64_t gate_inode(const struct entry *e)
{
	size_t low = 0, high = left_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (left[middle].fd == e->fd)
			return left[middle].ino;
		if (left[middle].fd < e->fd)
			low = middle + 1;
		else
			high = middle;
	}
	return e->object.ino;
}

const struct entry *gate_listener(uint64_t ino)
{
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (e->kind == ENTRY_STREAM && !gate_hides(e) && gate_inode(e) == ino)
			return e;
	return NULL;
}
