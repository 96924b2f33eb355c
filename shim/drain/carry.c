/* SPDX-License-Identifier: MIT */
/* Carry: what becomes of each connection when this generation leaves. */
#define _GNU_SOURCE
#include "drain/carry.h"

#include "process/guard.h"
#include "fd/inherited.h"
#include "base/io.h"
#include "drain/scm_recv.h"
#include "fd/tagging.h"

static bool listener_matches(const struct entry *e, int fd, enum rule_verb verb)
{
	return e->fd == TAGGING_REMOTE ? scm_recv_matches(fd, verb) : rules_match(&cpr__settings.rules, verb, e->name);
}

bool carry_comes_again(const struct entry *listener)
{
	return listener->flags & ENTRY_STARTED_WITH ? inherited_is_carried() : listener->flags & ENTRY_KEPT;
}

static bool may_carry(const struct conn *c, int fd, const struct entry *listener)
{
	if (!listener || !carry_comes_again(listener) || c->flags & (CONN_UNTRACKABLE | CONN_EOF_READ) || listener_matches(listener, fd, RULE_NO_CARRY))
		return false;
	if (!conn_seen_whole(c, fd) || conn_peer_ended(fd))
		return false;
	if (conn_untouched(c) || listener_matches(listener, fd, RULE_CARRY))
		return true;
	return http_kind(&c->http) == HTTP_YES && http_at_boundary(&c->http);
}

bool carry_may(const struct conn *c, int fd)
{
	return may_carry(c, fd, tagging_listener(c->listener));
}

size_t carry_choose(struct passed *into, size_t taken, size_t most, bool busy_too, struct carry_count *count)
{
	int64_t now = io_now();
	size_t n = taken;

	*count = (struct carry_count){.carried = taken};
	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);
		const struct entry *listener = c ? tagging_listener(c->listener) : NULL;
		struct object object;
		enum conn_view view;
		bool stands, carried;

		if (!listener || c->flags & CONN_EXEMPT || object_of(fd, &object)) /* closed this very moment, or not one of ours */
			continue;
		view = conn_look(c, fd, now);
		if (view == CONN_GONE)
			continue;
		stands = view >= CONN_AT_BOUNDARY || c->flags & CONN_FROZEN;
		carried = stands && may_carry(c, fd, listener);
		*(carried ? &count->carried : stands ? &count->closed : &count->cut) += 1;
		if (n < most && (stands || busy_too))
			into[n++] = (struct passed){.fd = fd, .listener = carried ? listener->fd : -1, .ino = object.ino};
	}
	return n;
}
