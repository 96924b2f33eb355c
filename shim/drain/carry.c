/* SPDX-License-Identifier: MIT */
/* Carry: what becomes of each connection when this generation leaves. */
#define _GNU_SOURCE
#include "drain/carry.h"

#include "process/guard.h"
#include "fd/inherited.h"
#include "base/io.h"
#include "drain/scm_recv.h"
#include "fd/tagging.h"

#include <sys/socket.h>
#include <sys/stat.h>

static bool listener_matches(const struct entry *e, int fd, enum rule_verb verb)
{
	return e->fd == TAGGING_REMOTE ? scm_recv_matches(fd, verb) : rules_match(&cpr__settings.rules, verb, e->name);
}

bool carry_comes_again(const struct entry *listener)
{
	return listener->flags & ENTRY_STARTED_WITH ? inherited_is_carried() : listener->flags & ENTRY_KEPT;
}

/* Of one that stands. */
static enum fate fate(const struct conn *c, int fd, const struct entry *listener, bool seen_whole)
{
	struct standing s = {.stands = true,
			     .comes_again = listener && carry_comes_again(listener),
			     .one_set = !(c->flags & CONN_UNTRACKABLE)};

	if (!s.comes_again || !s.one_set) /* the rest costs system calls */
		return FATE_END;
	s.seen_whole = seen_whole || conn_seen_whole(c, fd);
	s.ended = c->flags & CONN_EOF_READ || conn_peer_ended(fd);
	s.untouched = conn_untouched(c);
	s.http_idle = http_kind(&c->http) == HTTP_YES && http_at_boundary(&c->http);
	s.wanted = listener_matches(listener, fd, RULE_CARRY);
	s.unwanted = listener_matches(listener, fd, RULE_NO_CARRY);
	return fate_of(&s);
}

enum fate carry_fate(const struct conn *c, int fd, bool seen_whole)
{
	return fate(c, fd, tagging_listener(c->listener), seen_whole);
}

/*
 * What is frozen had its fate then: if it was not to be carried, its end is sent. Only the peer can have changed that,
 * by ending it.
 */
static enum fate fate_at_leaving(struct conn *c, int fd, const struct entry *listener, int64_t now)
{
	if (c->flags & CONN_FROZEN)
		return c->flags & CONN_FIN_SENT || conn_peer_ended(fd) || !carry_comes_again(listener) ? FATE_END
												       : FATE_CARRY;
	switch (conn_look(c, fd, now)) {
	case CONN_AT_BOUNDARY:
		return fate(c, fd, listener, true);
	case CONN_QUIET:
		return fate(c, fd, listener, false);
	default:
		return FATE_CUT;
	}
}

/* Is it a socket with a peer still, as before a close() that we did not see? */
static bool is_socket_of(int fd, uint64_t *ino)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	struct stat st;

	if (fstat(fd, &st) || !S_ISSOCK(st.st_mode) || getpeername(fd, (struct sockaddr *)&peer, &len))
		return false;
	*ino = st.st_ino;
	return true;
}

size_t carry_choose(struct passed *into, size_t taken, size_t most, bool busy_too, struct carry_count *count)
{
	int64_t now = io_now();
	size_t n = taken;

	*count = (struct carry_count){.carried = taken};
	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);
		const struct entry *listener = c ? tagging_listener(c->listener) : NULL;
		uint64_t ino;
		enum fate fate;

		if (!listener || c->flags & CONN_EXEMPT ||
		    !is_socket_of(fd, &ino)) /* closed this very moment, or not one of ours */
			continue;
		fate = fate_at_leaving(c, fd, listener, now);
		*(fate == FATE_CARRY ? &count->carried : fate == FATE_END ? &count->closed : &count->cut) += 1;
		if (n < most && (fate != FATE_CUT || busy_too))
			into[n++] = (struct passed){
				.fd = fd, .listener = fate == FATE_CARRY ? listener->fd : -1, .ino = ino};
	}
	return n;
}
