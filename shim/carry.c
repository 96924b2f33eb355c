/* SPDX-License-Identifier: MIT */
/* Carry: what becomes of each connection when this generation leaves. */
#define _GNU_SOURCE
#include "carry.h"

#include "deliver.h"
#include "foreign.h"
#include "io.h"
#include "knock.h"
#include "track.h"

enum {
	SILENT_MAX = 32, /* connections without a word, to a listener that defers accept() until there is one */
};

static bool listener_matches(const struct entry *e, enum rule_verb verb)
{
	return rules_match(&cpr__settings.rules, verb, e->name);
}

bool carry_comes_again(const struct entry *listener)
{
	return listener->flags & ENTRY_FOREIGN ? foreign_is_carried() : listener->flags & ENTRY_KEPT;
}

static bool may_carry(const struct conn *c, int fd, const struct entry *listener)
{
	if (!listener || !carry_comes_again(listener) || c->flags & (CONN_BLIND | CONN_ENDED) || listener_matches(listener, RULE_NO_CARRY))
		return false;
	if (!conn_seen_whole(c, fd) || conn_peer_ended(fd))
		return false;
	if (conn_untouched(c) || listener_matches(listener, RULE_CARRY))
		return true;
	return http_kind(&c->http) == HTTP_YES && http_at_boundary(&c->http);
}

bool carry_may(const struct conn *c, int fd)
{
	return may_carry(c, fd, track_listener(c->listener));
}

/* Who has asked or been answered this very moment is likely to be sending: to end that would cut a request, and its thread is free again soon. */
static bool is_silent(int fd)
{
	static const struct conn none;

	return !conn_has_unread(fd) && conn_rested(&none, fd, io_now(), CONN_RESTED_NS);
}

bool carry_has_room_for(const struct entry *listener, int fd, const struct passed *already, size_t n)
{
	int silent = 0;

	if (!is_silent(fd) || !knock_is_deferred(listener->fd))
		return true;
	for (size_t i = 0; i < n && silent < SILENT_MAX; i++)
		silent += already[i].listener == listener->fd && is_silent(already[i].fd);
	return silent < SILENT_MAX;
}

size_t carry_choose(struct passed *into, size_t most, bool busy_too, struct carry_count *count)
{
	int64_t now = io_now();
	size_t n = deliver_take_back(into, most);

	*count = (struct carry_count){.carried = n};
	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);
		const struct entry *listener = c ? track_listener(c->listener) : NULL;
		struct object object;
		enum conn_view view;
		bool stands, carried;

		if (!listener || object_of(fd, &object)) /* closed this very moment, or not one of ours */
			continue;
		view = conn_look(c, fd, now);
		if (view == CONN_GONE)
			continue;
		stands = view >= CONN_STANDS || c->flags & CONN_FROZEN;
		carried = stands && may_carry(c, fd, listener) && carry_has_room_for(listener, fd, into, n);
		*(carried ? &count->carried : stands ? &count->closed : &count->cut) += 1;
		if (n < most && (stands || busy_too))
			into[n++] = (struct passed){.fd = fd, .listener = carried ? listener->fd : -1, .ino = object.ino};
	}
	return n;
}
