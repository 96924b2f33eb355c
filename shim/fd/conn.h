/* SPDX-License-Identifier: MIT */
/*
 * Records of accepted connections: fresh, busy or answered, and whether between two requests. A flat array by
 * descriptor, without a lock.
 */
#ifndef CPR_FD_CONN_H
#define CPR_FD_CONN_H

#include "base/attr.h"
#include "process/birth.h"
#include "process/guard.h"
#include "model/http.h"
#include "model/tls.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum conn_state {
	CONN_NONE,
	CONN_FRESH,    /* accepted, nothing read */
	CONN_BUSY,     /* the last call was a read */
	CONN_ANSWERED, /* the last call was a write */
	/* a dup() of a connection whose record is at the number `listener`, if `birth` there is the same */
	CONN_DUP,
};

enum {
	CONN_PARTIAL_WRITE = 1 << 0,  /* the last write took less than it was given */
	CONN_ASKED = 1 << 1,  /* since its last write, the program tried to read, and there was nothing */
	CONN_FROZEN = 1 << 2, /* removed from its epoll set, and reads return EAGAIN, until the drain is over */
	CONN_POLLED = 1 << 3, /* in the epoll set below */
	CONN_UNTRACKABLE = 1 << 4,  /* in several epoll sets, or with bytes that we did not see: never carried */
	CONN_FIN_SENT = 1 << 7,   /* we have sent FIN: a write would raise a SIGPIPE that its peer did not cause */
	/* an answer was written in parts, between which its thread waited for events */
	CONN_SPLIT_ANSWER = 1 << 6,
	CONN_REARM = 1 << 8,  /* EPOLLONESHOT: the program armed it while it was frozen, and we have not yet */
	CONN_EOF_READ = 1 << 5,  /* end of file was read, or the program shut its side down */
	/* sent to another process, and not used here since: it belongs to that one, even if this number is open */
	CONN_PASSED = 1 << 9,
	CONN_NOT_OURS = 1 << 10, /* not a drain's concern: it came by message, or its peer is of this family */
	CONN_FASTCGI = 1 << 11, /* its first bytes are a FastCGI request */
	CONN_PEER_KNOWN = 1 << 12, /* drain/kinship.c has looked whether its peer is of this family */
	CONN_LEAVING = 1 << 13, /* frozen, and about to go to the next generation: nothing thaws it any more */
	CONN_OWED = 1 << 14, /* must go back into its epoll set, which had no room (drain/freeze.c) */
	CONN_EXEMPT = CONN_PASSED | CONN_NOT_OURS,
};

struct conn {
	_Atomic uint8_t state;
	uint8_t answers;   /* answered requests, counted up to a limit */
	_Atomic uint16_t flags;
	int listener;      /* descriptor on which it was accepted */
	uint64_t in, out;  /* bytes read and written */
	int64_t wrote_at;  /* CLOCK_MONOTONIC, ns; protocols without framing only */
	unsigned waits;    /* conn_waits at the time of the last write */
	unsigned birth;    /* how often a record began at this number */
	int dups;         /* how many numbers are dups of this one */
	int polled;        /* the number that is in its epoll set */
	int epfd;
	uint32_t events;   /* the events that the program registered, with their data */
	uint64_t data;
	struct http http;
	struct tls tls;
};

/* Sets or clears single bits: another thread may change others at the same time. Returns the earlier flags. */
static inline unsigned conn_set(struct conn *c, unsigned bits)
{
	return atomic_fetch_or(&c->flags, (uint16_t)bits);
}

static inline unsigned conn_clear(struct conn *c, unsigned bits)
{
	return atomic_fetch_and(&c->flags, (uint16_t)~bits);
}

/* No request is about to come if no byte came or went for 40 ms, or for some round trips. */
#define CONN_RESTED_NS INT64_C(40000000)

/* A stream is in a silence after half a second, if its client sent last and may wait for an answer. */
#define CONN_UNANSWERED_NS INT64_C(500000000)

/*
 * A TLS handshake under way counts as stalled after a quiet second. After the handshake, no request is expected after
 * half of that.
 */
#define CONN_HANDSHAKE_NS INT64_C(1000000000)
#define CONN_OPEN_NS INT64_C(500000000)

/* A client with fewer than CONN_CONVERSATION answers may be in a handshake that takes its time: 250 ms. */
#define CONN_STRANGER_NS INT64_C(250000000)
enum { CONN_CONVERSATION = 3 };

/* A protocol without framing counts as idle 50 ms after an answer, unless the program asked to read. */
#define CONN_QUIET_NS INT64_C(50000000)

enum {
	CONN_PAGE_SHIFT = 10,
	CONN_PAGES = 1 << 14, /* 16 million descriptors, as the table has */
};

extern _Atomic(struct conn *) conn_pages[CONN_PAGES];

/* Was there ever a record? */
extern _Atomic bool conn_any;

/* How often this thread has started to wait for events. */
extern cpr_thread unsigned conn_waits;

struct conn *conn_of_dup(const struct conn *twin);

/* Returns the record of a number, or NULL if it never was a connection. Two loads. A signal handler may call it. */
static inline struct conn *conn_at(int fd)
{
	struct conn *page;
	uint8_t state;

	if (unlikely((unsigned)fd >> CONN_PAGE_SHIFT >= CONN_PAGES))
		return NULL;
	page = atomic_load_explicit(&conn_pages[fd >> CONN_PAGE_SHIFT], memory_order_acquire);
	if (likely(!page))
		return NULL;
	page += fd & ((1 << CONN_PAGE_SHIFT) - 1);
	state = atomic_load_explicit(&page->state, memory_order_relaxed);
	return unlikely(state == CONN_DUP) ? conn_of_dup(page) : state ? page : NULL;
}

/*
 * Begins a record for a connection that was just accepted, and drops an older one. `carried`: it has a past, so our
 * counts start from the kernel's. Does nothing without memory.
 */
void conn_begin(int fd, int listener, bool carried);

/* The number is closed, or reused. If it has dups, one of them gets the record. */
void conn_end(int fd);

/* For dup() of a connection: bytes may pass by either number, and the connection ends with the last one. */
void conn_dup(int from, int to);

/* Returns the next dup of fd from the number `at` on, or -1. */
int conn_next_dup(int fd, int at);

/* The program read n bytes; `bytes` is NULL if they passed unseen (splice). */
void conn_read(struct conn *c, const void *bytes, uint64_t n);

/*
 * The program wrote n bytes; `bytes` is NULL if they passed unseen (sendfile). Call conn_sent for each part, and then
 * the other for the whole write: whether all of it was taken, and when.
 */
void conn_sent(struct conn *c, const void *bytes, uint64_t n);
void conn_wrote(struct conn *c, bool in_full, int64_t now);

/*
 * Did this thread write here last, and has it not waited for events since? False if that is not certain: each thread
 * counts its own waits.
 */
static inline bool conn_answered_here(const struct conn *c)
{
	return c->state == CONN_ANSWERED && c->waits == conn_waits && (!conn_waits || birth_is_single_threaded());
}

/* The thread that serves it waits for events, and on this connection for input only. */
void conn_awaits(struct conn *c);

/* Is it between two requests at this time? */
bool conn_at_boundary(const struct conn *c, int64_t now);

/*
 * Can it reach no boundary before its end: a stream (http_stream), a response without an end, HTTP that we cannot
 * track?
 */
bool conn_is_endless(const struct conn *c);

/*
 * Returns how long nothing must have come or gone for it to be in a silence, when closing it cuts nothing. 0: it has no
 * silences, as a response that only its end delimits; or it has boundaries.
 */
int64_t conn_silence_ns(const struct conn *c);

/* May it be frozen here: between two requests, or a stream in a silence? For a stream this asks the kernel. */
bool conn_may_stop(const struct conn *c, int fd, int64_t now);

/*
 * The same with the kernel's view: is the descriptor still that connection, and did as many bytes come and go as we
 * saw? For bytes that we did not see (stdio, io_uring) the kernel's own clocks decide: CONN_QUIET.
 */
enum conn_view { CONN_GONE, CONN_IN_PROGRESS, CONN_AT_BOUNDARY, CONN_QUIET };
enum conn_view conn_look(struct conn *c, int fd, int64_t now);

/*
 * A thread is about to read from it and to block. Has a write that we did not see answered the request (a CGI script
 * writes to the socket itself)? Then it is between two requests: a server that answers does not read on before it has.
 */
bool conn_settle_unseen(struct conn *c, int fd);

/* Has no byte come or gone for ns, or for three round trips if these are longer? */
bool conn_rested(const struct conn *c, int fd, int64_t now, int64_t ns);

/* Does the kernel hold bytes that the program has not read? */
bool conn_has_unread(int fd);

/* Has the peer sent FIN, and was all before it read? Then no request comes any more. */
bool conn_peer_ended(int fd);

/* Did we see every byte that the kernel delivered? */
bool conn_seen_whole(const struct conn *c, int fd);

/* Has this program read and written nothing on it yet, as if it were in the accept queue? */
bool conn_untouched(const struct conn *c);

/* Returns the next number from fd on that has a record, or -1. */
int conn_next(int fd);

#endif
