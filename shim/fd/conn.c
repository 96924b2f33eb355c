/* SPDX-License-Identifier: MIT */
/* Where each accepted connection stands. */
#define _GNU_SOURCE
#include "fd/conn.h"

#include "base/next.h"
#include "base/pool.h"
#include "base/raw.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

cpr_large _Atomic(struct conn *) conn_pages[CONN_PAGES];
cpr_touched _Atomic bool conn_any;
cpr_thread unsigned conn_waits;
static _Atomic int pages_top; /* no page at or above this: a walk over 16,384 of them takes 15 us */

/* Pages are mapped straight from the kernel: accept() takes no lock, and two threads may want the same page. */
static struct conn *conn_make_page(int index)
{
	size_t size = sizeof(struct conn) << CONN_PAGE_SHIFT;
	struct conn *page = atomic_load_explicit(&conn_pages[index], memory_order_acquire), *fresh;

	if (page)
		return page;
	fresh = pool_page(size);
	if (!fresh)
		return NULL;
	for (int top = pages_top; top <= index && !atomic_compare_exchange_weak(&pages_top, &top, index + 1);)
		;
	if (atomic_compare_exchange_strong(&conn_pages[index], &page, fresh)) {
		atomic_store(&conn_any, true);
		return fresh;
	}
	pool_unpage(fresh, size);
	return page;
}

/* tcpi_state: TCP_* of netinet/tcp.h, which does not go with linux/tcp.h */
enum { CLOSED = 7, CLOSE_WAIT = 8, LAST_ACK = 9, CLOSING = 11 };

/* The peer's end is counted as a byte. */
static bool conn_has_ended(const struct tcp_info *info)
{
	return info->tcpi_state == CLOSE_WAIT || info->tcpi_state == LAST_ACK || info->tcpi_state == CLOSING;
}

/* What was read of a connection in other processes: the kernel's count, without what still waits. */
static uint64_t read_before(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);
	int before = 0, after = 0;

	for (int tries = 0; tries < 10; tries++) { /* a request may come between these three calls */
		if (next_ioctl(fd, SIOCINQ, &before) || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) ||
		    next_ioctl(fd, SIOCINQ, &after))
			return 0;
		if (before == after)
			break;
	}
	return info.tcpi_bytes_received - conn_has_ended(&info) - (uint64_t)before;
}

/* What was ever written on it: acknowledged, or on its way. 0 where the kernel does not say. */
static uint64_t written(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);
	int under_way = 0;

	if (next_ioctl(fd, SIOCOUTQ, &under_way) || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len))
		return 0;
	return info.tcpi_bytes_acked + (uint64_t)under_way;
}

/* Of this number, whatever it says. NULL: it never had one. */
static struct conn *record_of(int fd)
{
	struct conn *page;

	if (fd < 0 || fd >> CONN_PAGE_SHIFT >= CONN_PAGES)
		return NULL;
	page = atomic_load_explicit(&conn_pages[fd >> CONN_PAGE_SHIFT], memory_order_acquire);
	return page ? &page[fd & ((1 << CONN_PAGE_SHIFT) - 1)] : NULL;
}

static struct conn *make_record(int fd)
{
	return fd >= 0 && fd >> CONN_PAGE_SHIFT < CONN_PAGES && conn_make_page(fd >> CONN_PAGE_SHIFT) ? record_of(fd)
												      : NULL;
}

void conn_begin(int fd, int listener, bool carried)
{
	struct conn *c = make_record(fd);

	if (!c)
		return;
	if (unlikely(c->state != CONN_NONE))
		conn_end(fd);
	atomic_store(&c->flags, 0);
	c->listener = listener;
	c->in = carried ? read_before(fd) : 0; /* before it can be seen: a drain in another thread compares it */
	c->out = carried ? written(fd) : 0;
	c->answers = 0;
	c->wrote_at = 0;
	c->epfd = -1;
	c->birth++;
	c->dups = 0;
	memset(&c->http, 0, sizeof(c->http));
	memset(&c->tls, 0, sizeof(c->tls));
	atomic_store_explicit(&c->state, CONN_FRESH, memory_order_release);
}

/* ---- several numbers of one connection ---- */

struct conn *conn_of_dup(const struct conn *twin)
{
	struct conn *c = record_of(twin->listener);

	return c && c->state && c->state != CONN_DUP && c->birth == twin->birth ? c : NULL;
}

static void become_dup(struct conn *twin, int of, const struct conn *c)
{
	twin->listener = of;
	twin->birth = c->birth;
	atomic_store_explicit(&twin->state, CONN_DUP, memory_order_release);
}

void conn_dup(int from, int to)
{
	struct conn *c = conn_at(from), *first = record_of(from), *twin = c ? make_record(to) : NULL;

	if (!twin || twin == c)
		return;
	c->dups++;
	become_dup(twin, first->state == CONN_DUP ? first->listener : from, c);
}

int conn_next_dup(int fd, int at)
{
	const struct conn *c = record_of(fd);

	if (!c || !c->dups)
		return -1;
	for (int top = atomic_load(&pages_top); at >> CONN_PAGE_SHIFT < top; at++) {
		const struct conn *twin = record_of(at);

		if (!twin)
			at |= (1 << CONN_PAGE_SHIFT) - 1;
		else if (twin->state == CONN_DUP && twin->listener == fd && twin->birth == c->birth)
			return at;
	}
	return -1;
}

/*
 * The first number is closed, and the connection lives on by another one, which takes the record. If the connection is
 * in an epoll set by the closed number, it stays there, and nothing can take it out any more.
 */
static void hand_over(int fd, const struct conn *c)
{
	int heir = conn_next_dup(fd, 0), left = c->dups - 1;
	struct conn *to = heir < 0 ? NULL : record_of(heir), all = *c;

	if (!to)
		return;
	all.birth = to->birth + 1;
	for (int dup = conn_next_dup(fd, heir + 1); dup >= 0 && left > 0; dup = conn_next_dup(fd, dup + 1)) {
		record_of(dup)->listener = heir;
		record_of(dup)->birth = all.birth;
	}
	all.dups = left;
	if (all.flags & CONN_POLLED && all.polled == fd)
		all.flags = (all.flags & ~CONN_POLLED) | CONN_UNTRACKABLE;
	atomic_store_explicit(&all.state, CONN_NONE, memory_order_relaxed);
	*to = all;
	atomic_store_explicit(&to->state, c->state, memory_order_release);
}

void conn_end(int fd)
{
	struct conn *c = record_of(fd), *first;

	if (!c || c->state == CONN_NONE)
		return;
	first = c->state == CONN_DUP ? conn_of_dup(c) : NULL;
	if (unlikely(first != NULL))
		first->dups--;
	else if (unlikely(c->dups > 0) && c->state != CONN_DUP)
		hand_over(fd, c);
	atomic_store_explicit(&c->state, CONN_NONE, memory_order_release);
}

/*
 * Bit by bit: another thread may freeze it in this moment. Mostly there is nothing to clear, and a locked instruction
 * is a tenth of what may be added to a read.
 */
static void conn_clear_flags(struct conn *c, unsigned bits)
{
	if (unlikely(atomic_load_explicit(&c->flags, memory_order_relaxed) & bits))
		conn_clear(c, bits);
}

enum { FASTCGI_VERSION = 1, FASTCGI_BEGIN = 1, FASTCGI_STDIN = 5, FASTCGI_HEADER = 8 };

/*
 * A FastCGI request begins with a record of this type. On a kept connection php-fpm reads the last, empty record of a
 * request after its answer: that is no new request.
 */
static bool is_end_of_fastcgi(struct conn *c, const uint8_t *bytes, uint64_t n)
{
	if (c->in == 0 && bytes && n >= FASTCGI_HEADER && bytes[0] == FASTCGI_VERSION && bytes[1] == FASTCGI_BEGIN)
		conn_set(c, CONN_FASTCGI);
	return unlikely(c->flags & CONN_FASTCGI) && bytes && n == FASTCGI_HEADER && c->state == CONN_ANSWERED &&
	       bytes[0] == FASTCGI_VERSION && bytes[1] == FASTCGI_STDIN && !bytes[4] && !bytes[5] && !bytes[6];
}

void conn_read(struct conn *c, const void *bytes, uint64_t n)
{
	bool is_end = is_end_of_fastcgi(c, bytes, n);

	c->in += n;
	if (unlikely(is_end))
		return;
	if (!http_is_followed(&c->http))
		;
	else if (bytes)
		http_read(&c->http, bytes, n);
	else
		http_read_unseen(&c->http, n);
	if (unlikely(tls_is_followed(&c->tls)))
		tls_read(&c->tls, bytes, n);
	conn_clear_flags(c, CONN_ASKED | CONN_PASSED);
	atomic_store_explicit(&c->state, CONN_BUSY, memory_order_release);
}

void conn_sent(struct conn *c, const void *bytes, uint64_t n)
{
	c->out += n;
	if (!http_is_followed(&c->http))
		;
	else if (bytes)
		http_wrote(&c->http, bytes, n);
	else
		http_wrote_body(&c->http, n);
	if (unlikely(tls_is_followed(&c->tls)))
		tls_wrote(&c->tls, bytes, n);
}

/* Is what was written behind a read an answer to it? The server's flight in a TLS handshake is none. */
static bool is_answer(const struct conn *c)
{
	enum tls_stage stage = tls_stage(&c->tls);

	return stage == TLS_NONE || stage == TLS_ANSWERED;
}

void conn_wrote(struct conn *c, bool in_full, int64_t now)
{
	uint16_t set = in_full ? 0 : CONN_PARTIAL_WRITE;

	if (c->state == CONN_ANSWERED && c->waits != conn_waits)
		set |= CONN_SPLIT_ANSWER;
	else if (c->state == CONN_BUSY && c->answers < UINT8_MAX && is_answer(c))
		c->answers++;
	c->wrote_at = now;
	c->waits = conn_waits;
	conn_clear_flags(c, CONN_PARTIAL_WRITE | CONN_ASKED | CONN_PASSED);
	if (set & ~atomic_load_explicit(&c->flags, memory_order_relaxed))
		atomic_fetch_or_explicit(&c->flags, set, memory_order_relaxed);
	atomic_store_explicit(&c->state, CONN_ANSWERED, memory_order_release);
}

bool conn_settle_unseen(struct conn *c, int fd)
{
	uint64_t now = c->state == CONN_BUSY && !conn_has_unread(fd) ? written(fd) : 0;

	if (now <= c->out || !http_answered_unseen(&c->http))
		return false;
	c->out = now;
	conn_set(c, CONN_ASKED);
	atomic_store_explicit(&c->state, CONN_ANSWERED, memory_order_release);
	return true;
}

/*
 * POLLERR alone says that there is something in the error queue: a MSG_ZEROCOPY that is done, a time stamp. A reset is
 * POLLHUP as well.
 */
bool conn_peer_ended(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return raw_poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP) && !conn_has_unread(fd);
}

/*
 * What the kernel says of a connection. `agrees`: it counts what we counted. `quiet`: by its clocks, the last word was
 * ours and is CONN_QUIET_NS old. `gone`: closed by a raw system call, or reset. A unix socket is not counted. In a
 * drain this is asked of each of thousands of connections, so two system calls have to do.
 */
struct kernel_view {
	bool agrees, quiet, gone;
};

static struct kernel_view ask_kernel(const struct conn *c, int fd)
{
	struct kernel_view view = {.agrees = true};
	struct sockaddr_storage peer;
	struct tcp_info info = {0};
	socklen_t len = sizeof(info), peer_len = sizeof(peer);
	int before = 0, after = 0;
	uint64_t received;

	if (next_ioctl(fd, SIOCINQ, &before) || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len)) {
		view.gone = getpeername(fd, (struct sockaddr *)&peer, &peer_len);
		return view;
	}
	view.gone = info.tcpi_state == CLOSED;
	view.quiet = info.tcpi_last_data_sent <= info.tcpi_last_data_recv &&
		     info.tcpi_last_data_sent >= CONN_QUIET_NS / 1000000;
	if (len < offsetof(struct tcp_info, tcpi_bytes_received) + sizeof(info.tcpi_bytes_received))
		return view;
	received = info.tcpi_bytes_received - conn_has_ended(&info);
	if (received == c->in + (uint64_t)before || next_ioctl(fd, SIOCINQ, &after))
		return view;
	/* a request may have come between these calls */
	view.agrees = c->in + (uint64_t)before <= received && received <= c->in + (uint64_t)after;
	return view;
}

enum conn_view conn_look(struct conn *c, int fd, int64_t now)
{
	struct kernel_view view = ask_kernel(c, fd);

	if (view.gone)
		return CONN_GONE;
	if (conn_silence_ns(c) || conn_is_endless(c))
		return conn_may_stop(c, fd, now) ? CONN_QUIET : CONN_IN_PROGRESS;
	if (view.agrees)
		return conn_at_boundary(c, now) ? CONN_AT_BOUNDARY : CONN_IN_PROGRESS;
	return view.quiet ? CONN_QUIET : CONN_IN_PROGRESS;
}

bool conn_rested(const struct conn *c, int fd, int64_t now, int64_t ns)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);
	uint32_t ms = (uint32_t)(ns / 1000000), trips;

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info,
		       &len)) /* a unix socket: when something came, only its answer tells */
		return c->state == CONN_ANSWERED && now - c->wrote_at >= ns;
	/* us; ~0: unknown. The mean has the 40 ms in it for which a peer delays its acknowledgement */
	trips = info.tcpi_min_rtt < 1000000 ? 3 * info.tcpi_min_rtt / 1000 : 0;
	if (ms < trips)
		ms = trips;
	return info.tcpi_last_data_sent >= ms && info.tcpi_last_data_recv >= ms;
}

bool conn_has_unread(int fd)
{
	int unread = 0;

	return !next_ioctl(fd, SIOCINQ, &unread) && unread > 0;
}

bool conn_seen_whole(const struct conn *c, int fd)
{
	return ask_kernel(c, fd).agrees;
}

bool conn_untouched(const struct conn *c)
{
	return c->state == CONN_FRESH;
}

/*
 * The program waits for its next request, and for nothing else: so it has tried to read, if it always waits after
 * complete answers. (A busy client leaves no 50 ms between an answer and its next request.) That the last answers took
 * one write each does not prove it: the next may be a long one, and this its first part.
 */
void conn_awaits(struct conn *c)
{
	if (http_kind(&c->http) == HTTP_NO && c->state == CONN_ANSWERED && c->answers > 1 &&
	    !(c->flags & (CONN_PARTIAL_WRITE | CONN_SPLIT_ANSWER | CONN_ASKED)))
		conn_set(c, CONN_ASKED);
}

bool conn_at_boundary(const struct conn *c, int64_t now)
{
	switch (http_kind(&c->http)) {
	case HTTP_OVER:
		return !http_partial(&c->http); /* the server will close it: so do we */
	case HTTP_YES:
		return http_at_boundary(&c->http);
	case HTTP_NEVER:
		return false;
	default:
		if (c->state == CONN_FRESH)
			return true;
		if (!is_answer(c))
			return false;
		if (c->flags & CONN_EOF_READ) /* the peer has no more to say, and the server is about to close it, or to
						 answer still */
			return now - c->wrote_at >= CONN_QUIET_NS && c->state == CONN_ANSWERED;
		if (c->state != CONN_ANSWERED || c->flags & CONN_PARTIAL_WRITE)
			return false;
		return c->flags & CONN_ASKED || now - c->wrote_at >= CONN_QUIET_NS;
	}
}

bool conn_is_endless(const struct conn *c)
{
	return http_kind(&c->http) == HTTP_NEVER || http_stream(&c->http);
}

int64_t conn_silence_ns(const struct conn *c)
{
	enum http_stream stream = http_stream(&c->http);

	switch (tls_stage(&c->tls)) {
	case TLS_HANDSHAKE:
		return CONN_HANDSHAKE_NS;
	case TLS_OPEN:
		return CONN_OPEN_NS;
	case TLS_ASKED: /* the server sent something since, and we took it for a ticket */
		return c->state == CONN_ANSWERED && !c->tls.client.have ? CONN_OPEN_NS : 0;
	default:
		break;
	}
	if (!stream || c->flags & CONN_PARTIAL_WRITE)
		return 0;
	if (stream == HTTP_EVENTS)
		return CONN_RESTED_NS;
	if (c->state == CONN_BUSY)
		return CONN_UNANSWERED_NS;
	return c->answers < CONN_CONVERSATION && !(c->flags & CONN_SPLIT_ANSWER) ? CONN_STRANGER_NS : CONN_RESTED_NS;
}

bool conn_may_stop(const struct conn *c, int fd, int64_t now)
{
	int64_t silence;

	if (conn_at_boundary(c, now))
		return true;
	silence = conn_silence_ns(c);
	return silence && !conn_has_unread(fd) && conn_rested(c, fd, now, silence);
}

int conn_next(int fd)
{
	for (int top = atomic_load(&pages_top); fd >> CONN_PAGE_SHIFT < top; fd++) {
		const struct conn *c = record_of(fd);

		if (!c)
			fd |= (1 << CONN_PAGE_SHIFT) - 1;
		else if (c->state && c->state != CONN_DUP)
			return fd;
	}
	return -1;
}
