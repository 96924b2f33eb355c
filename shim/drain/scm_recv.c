/* SPDX-License-Identifier: MIT */
/* What came by message. */
#define _GNU_SOURCE
#include "base/next.h"
#include "drain/scm_recv.h"

#include "base/guarded.h"
#include "base/room.h"
#include "model/protocol.h"
#include "process/light.h"
#include "process/guard.h"
#include "process/roster.h"
#include "process/birth.h"
#include "fd/inherited.h"
#include "fd/pending.h"
#include "fd/tagging.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

enum { KEYS_MAX = 16, NAME_SIZE = 128 };

static _Atomic uint64_t seen[KEYS_MAX]; /* keys of what came; what is beyond is known while it is here */

struct address {
	struct sockaddr_storage any;
	socklen_t len;
};

static bool has_peer(int fd)
{
	struct address peer = {.len = sizeof(peer.any)};

	return !getpeername(fd, (struct sockaddr *)&peer.any, &peer.len);
}

static bool own_address(int fd, struct address *here)
{
	*here = (struct address){.len = sizeof(here->any)};
	return !next_getsockname(fd, (struct sockaddr *)&here->any, &here->len);
}

static void any_address(struct sockaddr *addr)
{
	if (addr->sa_family == AF_INET)
		((struct sockaddr_in *)addr)->sin_addr.s_addr = htonl(INADDR_ANY);
	else if (addr->sa_family == AF_INET6)
		((struct sockaddr_in6 *)addr)->sin6_addr = in6addr_any;
}

static __attribute__((noinline)) int scm_recv_listener_of(int fd, const struct object *object)
{
	const struct entry *e = NULL;
	cleanup_room char *name = room_take();
	struct guard_hold hold;
	struct address here;
	int listener = -1;

	if (!name || !own_address(fd, &here) || !guard_lock(&hold))
		return -1;
	pending_resolve_all();
	if (!tag_socket(object, (struct sockaddr *)&here.any, here.len, name))
		e = tagging_listener_named(name);
	any_address((struct sockaddr *)&here.any);
	if (!e && !tag_socket(object, (struct sockaddr *)&here.any, here.len, name))
		e = tagging_listener_named(name);
	listener = e ? e->fd : -1;
	guard_unlock(&hold);
	return listener;
}

uint64_t scm_recv_key(int fd)
{
	struct address here;

	return own_address(fd, &here) ? protocol_key((struct sockaddr *)&here.any, here.len) : 0;
}

static void scm_recv_note_one(uint64_t key)
{
	for (size_t i = 0; i < KEYS_MAX; i++) {
		uint64_t none = 0;

		if (atomic_load(&seen[i]) == key || atomic_compare_exchange_strong(&seen[i], &none, key) || none == key)
			return;
	}
}

/*
 * This process cannot tell which listener accepted the connection, or whether a process made it by connect(). The
 * drain's request tells that.
 */
static void begin_afar(int fd)
{
	uint64_t key = scm_recv_key(fd);

	if (!key)
		return;
	scm_recv_note_one(key);
	conn_begin(fd, TAGGING_REMOTE, true);
}

/* One that was forked, and not exec'ed, knows its owner's listeners. */
static bool was_started_under_cpr(void)
{
	return roster_elect() && inherited_ancestor();
}

void scm_recv_note(int fd)
{
	struct object object;
	int saved_errno = errno, listener;

	begin_if_light();
	tagging_fresh(fd);
	if (!cpr__table || !birth_own_memory() || object_of(fd, &object) || object.domain < 0 ||
	    object.type != SOCK_STREAM)
		;
	else if (!has_peer(fd)) {
		if (was_started_under_cpr())
			inherited_came(fd);
	} else if ((listener = scm_recv_listener_of(fd, &object)) >= 0)
		conn_begin(fd, listener, true);
	else if (was_started_under_cpr())
		begin_afar(fd);
	errno = saved_errno;
}

static bool scm_recv_is_among(uint64_t key, const uint64_t *keys, size_t n)
{
	for (size_t i = 0; key && i < n; i++)
		if (keys[i] == key)
			return true;
	return false;
}

bool scm_recv_is_of(const uint64_t *keys, size_t n)
{
	bool any = false;

	for (size_t i = 0; i < KEYS_MAX; i++)
		any |= scm_recv_is_among(atomic_load(&seen[i]), keys, n);
	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);

		if (!c || c->listener != TAGGING_REMOTE)
			continue;
		if (scm_recv_is_among(scm_recv_key(fd), keys, n))
			any = true;
		else
			/* the record stays: a thread may be inside a read, with it in its hands */
			conn_set(c, CONN_NOT_OURS);
	}
	return any;
}

/* 2: bound to just this. 1: to any address. In both families of internet addresses the port stands in one place. */
static int scm_recv_fits(const struct address *listener, const struct address *here)
{
	const struct sockaddr_in *a = (const struct sockaddr_in *)&listener->any,
				 *b = (const struct sockaddr_in *)&here->any;
	const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)a, *b6 = (const struct sockaddr_in6 *)b;

	if (a->sin_family != b->sin_family)
		return 0;
	if (a->sin_family != AF_INET && a->sin_family != AF_INET6)
		return listener->len == here->len && !memcmp(&listener->any, &here->any, here->len) ? 2 : 0;
	if (a->sin_port != b->sin_port)
		return 0;
	if (a->sin_family == AF_INET)
		return a->sin_addr.s_addr == b->sin_addr.s_addr ? 2 : a->sin_addr.s_addr == htonl(INADDR_ANY);
	return !memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof(a6->sin6_addr)) ? 2
									      : IN6_IS_ADDR_UNSPECIFIED(&a6->sin6_addr);
}

const struct entry *scm_recv_listener(int fd)
{
	assert_guarded();
	const struct entry *best = NULL;
	struct address here, there;
	int most = 0;

	if (!own_address(fd, &here))
		return NULL;
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e)) {
		int fit = e->kind == ENTRY_STREAM && e->flags & ENTRY_LISTENING && own_address(e->fd, &there)
				  ? scm_recv_fits(&there, &here)
				  : 0;

		if (fit > most) {
			most = fit;
			best = e;
		}
	}
	return best;
}

bool scm_recv_matches(int fd, enum rule_verb verb)
{
	char name[NAME_SIZE], path[109];
	struct text t = TEXT_ON(name);
	struct object object;
	struct address here;

	if (!cpr__settings.rules.count || object_of(fd, &object) || !own_address(fd, &here))
		return false;
	if (tag_unix_path((struct sockaddr *)&here.any, here.len, path))
		text_format(&t, "unix:%s", path);
	else if (tag_inet(&object, (struct sockaddr *)&here.any, here.len, name, sizeof(name)))
		return false;
	return rules_match(&cpr__settings.rules, verb, name);
}
