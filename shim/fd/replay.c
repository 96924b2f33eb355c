/* SPDX-License-Identifier: MIT */
/* What the program set on a fresh socket, for the orphan that takes its place. */
#define _GNU_SOURCE
#include "fd/replay.h"

#include "process/guard.h"
#include "fd/gate.h"
#include "base/log.h"
#include "base/next.h"
#include "base/pool.h"
#include "fd/tagging.h"

#include <string.h>

struct note {
	struct note *after;
	uint64_t ino; /* of the fresh socket: a number can be closed and given out again */
	int fd, epfd; /* epfd -1: an option */
	struct epoll_event event;
	int level, name;
	socklen_t len;
	char value[];
};

static struct note *notes, **notes_end = &notes;

static void add_note(const struct note *from, const void *value)
{
	struct guard_hold hold;
	struct object object;
	struct note *note;

	if (object_of(from->fd, &object) || object.domain < 0 || !guard_lock(&hold))
		return;
	note = pool_alloc(sizeof(*note) + from->len);
	if (note) {
		*note = *from;
		note->ino = object.ino;
		memcpy(note->value, value, from->len);
		*notes_end = note;
		notes_end = &note->after;
	}
	guard_unlock(&hold);
}

void replay_note_option(int fd, int level, int name, const void *value, socklen_t len)
{
	struct note note = {.fd = fd, .epfd = -1, .level = level, .name = name, .len = len};

	if (tagging_orphans() && value && len <= 4096 && (!tagging_knows(fd) || gate_stands_at(fd)))
		add_note(&note, value);
}

void replay_note_epoll(int epfd, int op, int fd, const struct epoll_event *event)
{
	struct note note = {.fd = fd, .epfd = epfd};

	if (!tagging_orphans() || tagging_knows(fd))
		return;
	if (event && op != EPOLL_CTL_DEL)
		note.event = *event;
	note.level = op;
	add_note(&note, "");
}

void replay_forget(void)
{
	struct guard_hold hold;

	if (!notes || gate_claims() || !guard_lock(&hold))
		return;
	while (notes) {
		struct note *note = notes;

		notes = note->after;
		pool_free(note, sizeof(*note) + note->len);
	}
	notes_end = &notes;
	guard_unlock(&hold);
}

void replay_onto(int fd, uint64_t ino)
{
	for (const struct note *note = notes; note; note = note->after) {
		struct epoll_event event = note->event;

		if (note->fd != fd || note->ino != ino)
			continue;
		if (note->epfd >= 0)
			next_epoll_ctl(note->epfd, note->level, fd, &event);
		else if (next_setsockopt(fd, note->level, note->name, note->value, note->len))
			log_debug("option %d of level %d could not be set again on descriptor %d: %m", note->name, note->level, fd);
	}
}
