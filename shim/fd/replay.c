/* SPDX-License-Identifier: MIT */
/* What the program set on a fresh socket, for the orphan that takes its place. */
#define _GNU_SOURCE
#include "fd/replay.h"

#include "process/guard.h"
#include "fd/gate.h"
#include "base/full.h"
#include "base/log.h"
#include "base/next.h"
#include "base/pool.h"
#include "fd/conn.h"
#include "fd/offered.h"
#include "fd/tagging.h"

#include <netinet/in.h>
#include <string.h>

enum {
	HEADS = 256,
	/*
	 * notes of one socket: a program that sets the same option again and again, each time otherwise, has its last
	 * ones
	 */
	MOST = 64,
};

struct note {
	struct note *after;
	uint64_t ino; /* of the fresh socket: a number can be closed and given out again */
	int fd, epfd; /* epfd -1: an option */
	struct epoll_event event;
	int level, name;
	socklen_t len;
	char value[];
};

/* By descriptor, in the order in which the program called. */
static struct note *heads[HEADS];
static bool noted;

static struct note **head_of(int fd)
{
	return &heads[(unsigned)fd % HEADS];
}

static void free_note(struct note **at)
{
	struct note *note = *at;

	*at = note->after;
	pool_free(note, sizeof(*note) + note->len);
}

static bool is_same(const struct note *a, const struct note *b, const void *value)
{
	if (a->epfd >= 0 || b->epfd >= 0)
		return a->epfd == b->epfd;
	/* a membership is the same option with another value, and one more */
	return a->level == b->level && a->name == b->name && a->len == b->len && !memcmp(a->value, value, a->len);
}

static bool is_membership(const struct note *note)
{
	return note->level == IPPROTO_IP ? note->name == IP_ADD_MEMBERSHIP || note->name == MCAST_JOIN_GROUP
					 : note->level == IPPROTO_IPV6 && (note->name == IPV6_JOIN_GROUP ||
									   note->name == MCAST_JOIN_GROUP);
}

/* Has its socket the same option with a later value? */
static bool is_overruled(const struct note *note)
{
	const struct note *later = note->after;

	while (later && (later->fd != note->fd || later->epfd >= 0 || later->level != note->level ||
			 later->name != note->name))
		later = later->after;
	return later && note->epfd < 0 && !is_membership(note);
}

/*
 * Before a note is added. Drops the notes of a socket that was closed since, the one that this repeats, and the
 * oldest of too many. So open sockets bound what is noted, and not calls. Holding the guard.
 */
static void replay_make_room(const struct note *wanted, const void *value)
{
	struct note **at = head_of(wanted->fd), **oldest = NULL;
	int count = 0;

	while (*at) {
		struct note *note = *at;

		if (note->fd != wanted->fd) {
			at = &note->after;
		} else if (note->ino != wanted->ino || is_same(note, wanted, value)) {
			free_note(at);
		} else {
			oldest = oldest ? oldest : at;
			count++;
			at = &note->after;
		}
	}
	if (count < MOST)
		return;
	if (!is_overruled(*oldest))
		full_note(FULL_REPLAY, MOST);
	free_note(oldest);
}

static void append(const struct note *from, const void *value)
{
	struct note *note = pool_alloc(sizeof(*note) + from->len), **end = head_of(from->fd);

	if (!note)
		return;
	*note = *from;
	memcpy(note->value, value, from->len);
	while (*end)
		end = &(*end)->after;
	*end = note;
	noted = true;
}

/* Only what may yet be bound: not what was accepted, and not what the table knows. */
static bool is_wanted(int fd)
{
	return (tagging_orphans() || offered_any()) && !conn_at(fd) && !tagging_knows(fd);
}

static void add_note(struct note *from, const void *value, bool forgets)
{
	struct guard_hold hold;
	struct object object;

	if (object_of(from->fd, &object) || object.domain < 0 || !guard_lock(&hold))
		return;
	from->ino = object.ino;
	replay_make_room(from, value);
	if (!forgets)
		append(from, value);
	guard_unlock(&hold);
}

void replay_note_option(int fd, int level, int name, const void *value, socklen_t len)
{
	struct note note = {.fd = fd, .epfd = -1, .level = level, .name = name, .len = len};

	if ((is_wanted(fd) || (tagging_orphans() && gate_stands_at(fd))) && value && len <= 4096)
		add_note(&note, value, false);
}

void replay_note_epoll(int epfd, int op, int fd, const struct epoll_event *event)
{
	struct note note = {.fd = fd, .epfd = epfd};

	if (!is_wanted(fd))
		return;
	if (event && op != EPOLL_CTL_DEL)
		note.event = *event;
	add_note(&note, "", op == EPOLL_CTL_DEL);
}

static void forget_all_of(struct note **at, int fd)
{
	while (*at)
		if (fd < 0 || (*at)->fd == fd)
			free_note(at);
		else
			at = &(*at)->after;
}

void replay_forget_one(int fd)
{
	struct guard_hold hold;

	if (!*head_of(fd) || !guard_lock(&hold))
		return;
	forget_all_of(head_of(fd), fd);
	guard_unlock(&hold);
}

void replay_forget(void)
{
	struct guard_hold hold;

	if (!noted || gate_claims() || !guard_lock(&hold))
		return;
	for (int i = 0; i < HEADS; i++)
		forget_all_of(&heads[i], -1);
	noted = false;
	guard_unlock(&hold);
}

void replay_onto(int fd, uint64_t ino)
{
	for (const struct note *note = *head_of(fd); note; note = note->after) {
		struct epoll_event event = note->event;

		if (note->fd != fd || note->ino != ino)
			continue;
		if (note->epfd >= 0)
			next_epoll_ctl(note->epfd, EPOLL_CTL_ADD, fd, &event);
		else if (next_setsockopt(fd, note->level, note->name, note->value, note->len))
			log_debug("option %d of level %d could not be set again on descriptor %d: %m", note->name,
				  note->level, fd);
	}
}
