/* SPDX-License-Identifier: MIT */
/* Carry: choose, pass on, knock, take. */
#define _GNU_SOURCE
#include "carry.h"

#include "guard.h"
#include "io.h"
#include "log.h"
#include "next.h"
#include "pool.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	KNOCK_MS = 100,  /* how long a knock may take: the queue was raised, and it is on this machine */
	LINGER_MS = 2000, /* how long a connection that we end is read, so that the peer sees FIN and not a reset */
	WORD_MS = 20,     /* how long a knock may take to say its word after it is accepted */
	PER_QUEUE = 128, /* descriptors in flight in one socket pair */
};

/* ---- leaving ---- */

static bool listener_matches(const struct entry *e, enum rule_verb verb)
{
	return rules_match(&cpr__settings.rules, verb, e->name);
}

static bool may_carry(const struct conn *c, int fd, const struct entry *listener)
{
	if (!listener || !(listener->flags & ENTRY_KEPT) || c->flags & (CONN_BLIND | CONN_ENDED) || listener_matches(listener, RULE_NO_CARRY))
		return false;
	if (!conn_seen_whole(c, fd))
		return false;
	if (conn_untouched(c) || listener_matches(listener, RULE_CARRY))
		return true;
	return http_kind(&c->http) == HTTP_YES && http_at_boundary(&c->http);
}

static const struct entry *listener_of(const struct conn *c)
{
	const struct entry *e = table_by_fd(cpr__table, c->listener);

	return e && e->kind == ENTRY_STREAM ? e : NULL;
}

bool carry_may(const struct conn *c, int fd)
{
	return may_carry(c, fd, listener_of(c));
}

/* ---- arriving ---- */

/* All that was carried from listeners of one name. Once there are knocks, the descriptors are in flight in socket pairs: whichever process of a forking
   server accepts a knock takes one out, and no other process ever has held it, so that its end is its end. */
struct family {
	struct family *after;
	int *fds;
	size_t count, room;
	size_t unknocked; /* in flight, and no knock was made for it yet */
	int (*pairs)[2];
	size_t pair_count;
	char *name;
};

struct knock {
	sa_family_t family;
	uint16_t port;            /* the local port that it came from */
	char path[24];            /* unix: the abstract name that the kernel gave it */
};

_Atomic bool carry_waiting;
static struct family *families;
static struct knock *knocks;
static size_t knock_count, knock_room;
static char word[16]; /* what a knock says: a client may come from a port that a knock came from */

static int *closing; /* descriptors that we end for the last generation */
static size_t closing_count;
static int64_t closing_until;

static struct family *family_named(const char *name)
{
	for (struct family *f = families; f; f = f->after)
		if (!strcmp(f->name, name))
			return f;
	return NULL;
}

static bool is_it(const struct passed *p)
{
	struct object object;

	return !object_of(p->fd, &object) && object.ino == p->ino && object.domain >= 0;
}

static struct family *family_for(const char *name, size_t most)
{
	struct family *f = family_named(name);
	size_t len = strlen(name) + 1;

	if (f)
		return f;
	f = pool_alloc(sizeof(*f));
	if (!f)
		return NULL;
	f->name = pool_alloc(len);
	f->fds = pool_alloc(most * sizeof(int));
	if (!f->name || !f->fds)
		return NULL;
	memcpy(f->name, name, len);
	f->room = most;
	f->after = families;
	families = f;
	return f;
}

/* Until the program listens, it may close everything that it does not know: as an orphan, this is not there for it. */
static void hide(const char *listener, int fd)
{
	char name[TAG_NAME_MAX + 16];
	struct text t = TEXT_ON(name);
	struct entry *e;

	text_format(&t, CARRY_PREFIX "%s", listener);
	if (t.used > TAG_NAME_MAX || table_add_next(cpr__table, name, fd, &e))
		return;
	object_of(fd, &e->object);
	table_make_orphan(cpr__table, e);
}

/* FIN after the last byte. What the peer has sent and nobody read would turn a close into a reset: it is read and dropped until the peer ends, too. */
static void begin_close(int fd)
{
	shutdown(fd, SHUT_WR);
	next_fcntl(fd, F_SETFL, (void *)(long)(next_fcntl(fd, F_GETFL, NULL) | O_NONBLOCK));
	closing[closing_count++] = fd;
	hide("", fd);
}

void carry_adopt(const struct passed *passed, size_t n)
{
	if (n && getrandom(word, sizeof(word), GRND_NONBLOCK) != sizeof(word))
		n = 0; /* all are closed by the next exec; never taken for clients */
	closing = pool_alloc((n + 1) * sizeof(int));
	knocks = pool_alloc((n + 1) * sizeof(struct knock));
	knock_room = knocks ? n : 0;
	for (size_t i = 0; closing && i < n; i++) {
		const struct passed *p = &passed[i];
		const struct entry *e = p->listener >= 0 ? table_by_fd(cpr__table, p->listener) : NULL;
		struct family *f;

		if (!is_it(p))
			continue;
		next_fcntl(p->fd, F_SETFD, (void *)(long)FD_CLOEXEC);
		f = e ? family_for(e->name, n) : NULL;
		if (f) {
			f->fds[f->count++] = p->fd;
			hide(f->name, p->fd);
		} else {
			begin_close(p->fd);
		}
	}
	closing_until = io_now() + LINGER_MS * INT64_C(1000000);
}

static bool put_in_flight(struct family *f)
{
	size_t pairs = (f->count + PER_QUEUE - 1) / PER_QUEUE;

	f->pairs = pool_alloc((pairs + 1) * sizeof(*f->pairs));
	if (!f->pairs)
		return false;
	for (size_t i = 0; i < f->count; i++) {
		if (i % PER_QUEUE == 0) {
			if (next_socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, f->pairs[f->pair_count]))
				return f->pair_count > 0;
			f->pair_count++;
		}
		if (io_send(f->pairs[f->pair_count - 1][0], "", 1, f->fds[i]))
			log_warn("a connection of %s could not be carried: %m", f->name);
		table_forget_fd(cpr__table, f->fds[i]);
		next_close(f->fds[i]);
	}
	f->count = 0;
	return true;
}

/* One carried connection of this family, or -1. */
static int take(struct family *f)
{
	char byte;
	int fd;

	for (size_t i = 0; i < f->pair_count; i++)
		if (io_receive(f->pairs[i][1], &byte, 1, &fd) > 0 && fd >= 0)
			return fd;
	return -1;
}

/* Where a local client reaches the listener: its own address, or loopback for the wildcard. */
static bool reachable(int fd, struct sockaddr_storage *addr, socklen_t *len)
{
	struct sockaddr_in *in = (struct sockaddr_in *)addr;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)addr;

	*len = sizeof(*addr);
	if (getsockname(fd, (struct sockaddr *)addr, len))
		return false;
	if (addr->ss_family == AF_INET && in->sin_addr.s_addr == htonl(INADDR_ANY))
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (addr->ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr))
		in6->sin6_addr = in6addr_loopback;
	return addr->ss_family == AF_INET || addr->ss_family == AF_INET6 || addr->ss_family == AF_UNIX;
}

static void name_knock(int sock, struct knock *k)
{
	struct sockaddr_storage here = {0};
	struct sockaddr_un *un = (struct sockaddr_un *)&here;
	socklen_t len = sizeof(here);

	*k = (struct knock){0};
	if (getsockname(sock, (struct sockaddr *)&here, &len))
		return;
	k->family = here.ss_family;
	if (here.ss_family == AF_INET)
		k->port = ((struct sockaddr_in *)&here)->sin_port;
	else if (here.ss_family == AF_INET6)
		k->port = ((struct sockaddr_in6 *)&here)->sin6_port;
	else
		memcpy(k->path, un->sun_path, len - offsetof(struct sockaddr_un, sun_path) < sizeof(k->path) ? len - offsetof(struct sockaddr_un, sun_path) : sizeof(k->path));
}

static bool knock_once(int listener, struct knock *k)
{
	struct timeval patience = {0, KNOCK_MS * 1000};
	struct sockaddr_storage addr;
	struct sockaddr_un autobind = {.sun_family = AF_UNIX};
	socklen_t len, type_len = sizeof(int);
	int type = SOCK_STREAM;
	cleanup_fd int sock = -1;

	if (!reachable(listener, &addr, &len) || getsockopt(listener, SOL_SOCKET, SO_TYPE, &type, &type_len))
		return false;
	sock = next_socket(addr.ss_family, type | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return false;
	next_setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (addr.ss_family == AF_UNIX)
		next_bind(sock, (struct sockaddr *)&autobind, sizeof(sa_family_t)); /* else nobody could tell it from a client */
	if (next_connect(sock, (struct sockaddr *)&addr, len))
		return false;
	name_knock(sock, k);
	return next_send(sock, word, sizeof(word), MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(word);
}

/* In flight still: nobody has accepted that knock yet. */
static bool is_empty(const struct family *f)
{
	struct pollfd p = {.events = POLLIN};

	for (size_t i = 0; i < f->pair_count; i++) {
		p.fd = f->pairs[i][1];
		if (next_poll(&p, 1, 0) > 0)
			return false;
	}
	return true;
}

/* Nothing in flight: every knock so far has been accepted, and the record of them is free. */
static bool done_knocking(void)
{
	for (struct family *f = families; f; f = f->after)
		if (f->pair_count && !is_empty(f))
			return false;
	return true;
}

/* As many as the accept queue takes: the rest is knocked for by the tick, when the program has accepted some. Nobody waits long for that in bind(). */
static void knock(struct family *f, int fd)
{
	while (f->unknocked && knock_count < knock_room && knock_once(fd, &knocks[knock_count])) {
		knock_count++;
		f->unknocked--;
	}
	if (f->unknocked)
		log_debug("%zu connections of %s are still to be knocked for: %m", f->unknocked, f->name);
	if (knock_count)
		atomic_store(&carry_waiting, true);
}

void carry_knock(const char *name, int fd)
{
	struct family *f = family_named(name);
	size_t n = f ? f->count : 0;
	int kept = errno;

	if (done_knocking())
		knock_count = 0;
	if (n && put_in_flight(f)) {
		f->unknocked = n;
		knock(f, fd);
	}
	errno = kept;
}

/* Does it come from where one of our knocks came from? A v4 knock at a dual-stack listener comes out as v6-mapped: the port says enough. */
static bool comes_like_a_knock(int fd)
{
	struct knock k;
	struct sockaddr_storage there = {0};
	struct sockaddr_un *un = (struct sockaddr_un *)&there;
	socklen_t len = sizeof(there);

	if (getpeername(fd, (struct sockaddr *)&there, &len))
		return false;
	k = (struct knock){.family = there.ss_family};
	if (there.ss_family == AF_INET)
		k.port = ((struct sockaddr_in *)&there)->sin_port;
	else if (there.ss_family == AF_INET6)
		k.port = ((struct sockaddr_in6 *)&there)->sin6_port;
	else if (len > offsetof(struct sockaddr_un, sun_path))
		memcpy(k.path, un->sun_path, len - offsetof(struct sockaddr_un, sun_path) < sizeof(k.path) ? len - offsetof(struct sockaddr_un, sun_path) : sizeof(k.path));
	for (size_t i = 0; i < knock_count; i++) {
		if (k.family == AF_UNIX ? knocks[i].family == AF_UNIX && !memcmp(k.path, knocks[i].path, sizeof(k.path))
					: knocks[i].family != AF_UNIX && k.port == knocks[i].port)
			return true;
	}
	return false;
}

/* And says the word. Another process may accept it between our connect and our send: that takes no time, but some. */
static bool is_knock(int fd)
{
	char said[sizeof(word)];
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (!comes_like_a_knock(fd) || next_poll(&p, 1, WORD_MS) <= 0)
		return false;
	return next_recv(fd, said, sizeof(said), MSG_PEEK | MSG_DONTWAIT) == sizeof(said) && !memcmp(said, word, sizeof(said));
}

static void name_peer(int fd, struct sockaddr *addr, socklen_t *len)
{
	struct sockaddr_storage there = {0};
	socklen_t there_len = sizeof(there);

	if (!addr || !len || getpeername(fd, (struct sockaddr *)&there, &there_len))
		return;
	memcpy(addr, &there, *len < there_len ? *len : there_len);
	*len = there_len;
}

/* fd is where the knock was accepted: a carried connection in its place, with the flags that accept4 was asked for. */
static bool put_in_place(int carried, int fd, int flags)
{
	int status = next_fcntl(carried, F_GETFL, NULL);

	if (next_dup3(carried, fd, flags & SOCK_CLOEXEC ? O_CLOEXEC : 0) < 0)
		return false;
	next_fcntl(fd, F_SETFL, (void *)(long)(flags & SOCK_NONBLOCK ? status | O_NONBLOCK : status & ~O_NONBLOCK));
	next_close(carried);
	return true;
}

int carry_accepted(int listener, int fd, int flags, struct sockaddr *addr, socklen_t *len)
{
	struct entry *e = table_by_fd(cpr__table, listener);
	struct family *f = e ? family_named(e->name) : NULL;
	int kept = errno, carried, r = -1;

	if (!f || !is_knock(fd)) {
		errno = kept;
		return 0;
	}
	carried = take(f);
	if (carried >= 0 && !put_in_place(carried, fd, flags)) {
		next_close(carried);
		carried = -1;
	}
	if (carried >= 0) {
		name_peer(fd, addr, len);
		r = 1;
	} else {
		next_close(fd);
	}
	errno = kept;
	return r;
}

static bool closings_over(void)
{
	static char dropped[4096]; /* the guard is held, and a handler's stack may be small */
	bool late = io_now() >= closing_until;
	size_t left = 0;

	for (size_t i = 0; i < closing_count; i++) {
		const struct entry *e = table_by_fd(cpr__table, closing[i]);
		ssize_t n;

		if (!e || strcmp(e->name, CARRY_PREFIX) || !object_still(&e->object, closing[i]))
			continue; /* closed behind our back: the number is the program's */
		do
			n = next_recv(closing[i], dropped, sizeof(dropped), MSG_DONTWAIT);
		while (n > 0);
		if (n < 0 && errno == EAGAIN && !late)
			closing[left++] = closing[i];
		else {
			table_forget_fd(cpr__table, closing[i]);
			next_close(closing[i]);
		}
	}
	closing_count = left;
	return !left;
}

static void close_pairs(struct family *f)
{
	for (size_t i = 0; i < f->pair_count; i++) {
		next_close(f->pairs[i][0]);
		next_close(f->pairs[i][1]);
	}
	f->pair_count = 0;
	f->unknocked = 0;
}

static bool settle(bool late)
{
	bool over = closings_over();

	for (struct family *f = families; f; f = f->after) {
		int fd;

		if (late) {
			size_t lost = f->count;

			f->count = 0; /* never knocked for: closed with the orphans */
			for (; (fd = take(f)) >= 0; lost++)
				next_close(fd);
			if (lost)
				log_warn("%zu carried connections of %s were not accepted in %d s: closed", lost, f->name, cpr__settings.grace_s);
		}
		if (f->count || !is_empty(f)) {
			const struct entry *e = f->unknocked ? table_find(cpr__table, f->name, 0) : NULL;

			if (e && !(e->flags & ENTRY_ORPHAN))
				knock(f, e->fd);
			over = false;
			continue;
		}
		close_pairs(f);
	}
	if (!families || (over && done_knocking()))
		atomic_store(&carry_waiting, false);
	return over;
}

bool carry_settle(bool late)
{
	struct guard_hold hold;
	bool over;

	if (!guard_lock(&hold))
		return true;
	over = settle(late);
	guard_unlock(&hold);
	return over;
}

/* ---- leaving again, before the program has accepted every knock ---- */

/* Is somebody waiting to be accepted? Without that, accept() on a blocking listener would not come back. */
static int accept_now(int listener)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};

	return next_poll(&p, 1, 0) > 0 ? next_accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
}

/* The knocks out of the queue (the next generation would take them for clients), and what they stood for back from the socket pairs. A client that
   queued among them is as good as carried. */
static void reclaim(struct family *f, int listener)
{
	int fd;

	while (f->count < f->room && (fd = accept_now(listener)) >= 0) {
		if (is_knock(fd))
			next_close(fd);
		else
			f->fds[f->count++] = fd;
	}
	while (f->count < f->room && (fd = take(f)) >= 0)
		f->fds[f->count++] = fd;
	close_pairs(f);
}

static size_t reclaim_all(struct passed *into, size_t most)
{
	size_t n = 0;

	for (struct family *f = families; f; f = f->after) {
		struct entry *e = table_find(cpr__table, f->name, 0);
		struct object object;

		if (!e || e->flags & ENTRY_ORPHAN || !f->pair_count || is_empty(f))
			continue;
		reclaim(f, e->fd);
		for (size_t i = 0; i < f->count && n < most; i++)
			if (!object_of(f->fds[i], &object))
				into[n++] = (struct passed){.fd = f->fds[i], .listener = e->fd, .ino = object.ino};
	}
	return n;
}

void carry_call_off(void)
{
	for (struct family *f = families; f; f = f->after) {
		struct entry *e = table_find(cpr__table, f->name, 0);

		if (e && !(e->flags & ENTRY_ORPHAN))
			carry_knock(f->name, e->fd);
	}
}

size_t carry_choose(struct passed *into, size_t most, bool busy_too, struct carry_count *count)
{
	int64_t now = io_now();
	size_t n = reclaim_all(into, most);

	*count = (struct carry_count){.carried = n};
	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);
		const struct entry *listener = c ? listener_of(c) : NULL;
		struct object object;
		enum conn_view view;
		bool stands, carried;

		if (!listener || object_of(fd, &object)) /* closed this very moment, or not one of ours */
			continue;
		view = conn_look(c, fd, now);
		if (view == CONN_GONE)
			continue;
		stands = view >= CONN_STANDS || c->flags & CONN_FROZEN;
		carried = stands && may_carry(c, fd, listener);
		*(carried ? &count->carried : stands ? &count->closed : &count->cut) += 1;
		if (n < most && (stands || busy_too))
			into[n++] = (struct passed){.fd = fd, .listener = carried ? listener->fd : -1, .ino = object.ino};
	}
	return n;
}
