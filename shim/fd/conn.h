/* SPDX-License-Identifier: MIT */
/*
 * Where each accepted connection stands: fresh, busy, answered; between two requests or not. A flat array by
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
	CONN_BUSY,     /* last: read */
	CONN_ANSWERED, /* last: written */
	/*
	 * dup() gave this number out for a connection whose record is another number's: `listener`, if that was begun
	 * as often as `birth` says
	 */
	CONN_DUP,
};

enum {
	CONN_PARTIAL_WRITE = 1 << 0,  /* the last write took less than it was given */
	CONN_ASKED = 1 << 1,  /* the program has asked to read since the last write, and there was nothing */
	CONN_FROZEN = 1 << 2, /* out of its epoll set, and reads say EAGAIN, until the drain is over */
	CONN_POLLED = 1 << 3, /* in the epoll set below */
	CONN_UNTRACKABLE = 1 << 4,  /* in more epoll sets than one, or with bytes that we did not see: never carried */
	CONN_FIN_SENT = 1 << 7,   /* we have sent its end: a write would be a SIGPIPE that its peer did not cause */
	/* an answer of this connection went on after its thread had waited for events in between */
	CONN_SPLIT_ANSWER = 1 << 6,
	CONN_REARM = 1 << 8,  /* EPOLLONESHOT: armed by the program while it was frozen, and not by us yet */
	CONN_EOF_READ = 1 << 5,  /* the peer's end of file was read, or the program shut its side */
	/* sent to another process, and not touched here since: it is that one's, if this number is open still */
	CONN_PASSED = 1 << 9,
	CONN_NOT_OURS = 1 << 10, /* no drain has to do with it: it came by message, or its peer is of this family */
	CONN_FASTCGI = 1 << 11, /* its first bytes are a FastCGI request */
	CONN_PEER_KNOWN = 1 << 12, /* drain/kinship.c has looked whether its peer is of this family */
	CONN_LEAVING = 1 << 13, /* frozen, and about to go to the next generation: nothing lets it go on any more */
	CONN_OWED = 1 << 14, /* to its epoll set, which had no room for it (drain/freeze.c) */
	CONN_EXEMPT = CONN_PASSED | CONN_NOT_OURS,
};

struct conn {
	_Atomic uint8_t state;
	uint8_t answers;   /* requests that were answered, as far as it counts */
	_Atomic uint16_t flags;
	int listener;      /* the descriptor it was accepted on */
	uint64_t in, out;  /* bytes read and written */
	int64_t wrote_at;  /* CLOCK_MONOTONIC, ns; protocols without framing only */
	unsigned waits;    /* conn_waits at the last write */
	unsigned birth;    /* how often a record was begun at this number */
	int dups;         /* how many numbers are dups of this one */
	int polled;        /* the number by which it is in its epoll set */
	int epfd;
	uint32_t events;   /* what the program wants to hear of, and with what word */
	uint64_t data;
	struct http http;
	struct tls tls;
};

/* Flags are set and cleared one by one: another thread may be at the others in this moment. What they were. */
static inline unsigned conn_set(struct conn *c, unsigned bits)
{
	return atomic_fetch_or(&c->flags, (uint16_t)bits);
}

static inline unsigned conn_clear(struct conn *c, unsigned bits)
{
	return atomic_fetch_and(&c->flags, (uint16_t)~bits);
}

/*
 * How long nothing must have come or gone for the next request not to be expected this very moment: 40 ms, or some
 * round trips.
 */
#define CONN_RESTED_NS INT64_C(40000000)

/*
 * How long a stream must have been quiet to be in a silence, if its client spoke last and may wait for an answer: half
 * a second.
 */
#define CONN_UNANSWERED_NS INT64_C(500000000)

/*
 * How long a TLS handshake under way must have been quiet to be taken for stalled: a second. And after it, for no
 * request to be expected: half of one.
 */
#define CONN_HANDSHAKE_NS INT64_C(1000000000)
#define CONN_OPEN_NS INT64_C(500000000)

/*
 * A client that was answered less often than CONN_CONVERSATION times may be in a handshake, and take its time over it:
 * 250 ms.
 */
#define CONN_STRANGER_NS INT64_C(250000000)
enum { CONN_CONVERSATION = 3 };

/* How long a protocol that we cannot frame must have been quiet after an answer (and not asked to read): 50 ms. */
#define CONN_QUIET_NS INT64_C(50000000)

enum {
	CONN_PAGE_SHIFT = 10,
	CONN_PAGES = 1 << 14, /* 16 million descriptors, as the table has */
};

extern _Atomic(struct conn *) conn_pages[CONN_PAGES];

/* Was there ever a record? */
extern _Atomic bool conn_any;

/* How often this thread has begun to wait for events. */
extern cpr_thread unsigned conn_waits;

struct conn *conn_of_dup(const struct conn *twin);

/* The record of a number, or NULL if that never was a connection. Two loads; any signal handler may call it. */
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
 * A new record, of a connection that was just accepted; what stood at the number is gone. One that was `carried` has a
 * past: the kernel's counts of it are where ours begin. Nothing happens without memory.
 */
void conn_begin(int fd, int listener, bool carried);

/* The number is closed, or was given out again. If it has dups, the record is one of theirs from here on. */
void conn_end(int fd);

/* dup() of a connection: bytes may pass by either number from here on, and it ends with the last of them. */
void conn_dup(int from, int to);

/* The next number from `at` on that is a twin of fd, or -1. */
int conn_next_dup(int fd, int at);

/* What the program read; `bytes` NULL: it went by unseen (splice). */
void conn_read(struct conn *c, const void *bytes, uint64_t n);

/*
 * A write of the program took these bytes (NULL: unseen, as by sendfile): each part of it, and then the whole, with
 * whether all of it was taken, and when.
 */
void conn_sent(struct conn *c, const void *bytes, uint64_t n);
void conn_wrote(struct conn *c, bool in_full, int64_t now);

/*
 * Is this thread the one that wrote here last, and has it not waited for events since? "No" where that is not certain:
 * threads count their waits each for itself.
 */
static inline bool conn_answered_here(const struct conn *c)
{
	return c->state == CONN_ANSWERED && c->waits == conn_waits && (!conn_waits || birth_is_single_threaded());
}

/* The thread that serves it waits for events, and of this one for input only. */
void conn_awaits(struct conn *c);

/* Does it stand between two requests at this time? */
bool conn_at_boundary(const struct conn *c, int64_t now);

/*
 * Can it come to no boundary any more before it ends: a stream (http_stream), a response without an end, HTTP that we
 * lost track of?
 */
bool conn_is_endless(const struct conn *c);

/*
 * How long nothing must have come or gone for it to be in a silence, in which its end cuts nothing. 0: it has none, as
 * a response that only its end delimits; or it has boundaries.
 */
int64_t conn_silence_ns(const struct conn *c);

/* Between two requests, or a stream in a silence: may it be stopped here? The latter asks the kernel. */
bool conn_may_stop(const struct conn *c, int fd, int64_t now);

/*
 * The same, asked of the kernel too: is the descriptor still that connection, and did as many bytes come and go as we
 * saw? What was read behind our back (stdio, io_uring) is judged by the kernel's own clocks: CONN_QUIET.
 */
enum conn_view { CONN_GONE, CONN_IN_PROGRESS, CONN_AT_BOUNDARY, CONN_QUIET };
enum conn_view conn_look(struct conn *c, int fd, int64_t now);

/*
 * A thread is about to read it, or at it, and blocks: has what was asked been answered by bytes that were not seen (a
 * CGI script writes to the socket itself)? Then it stands between two requests. A server that answers does not read on
 * before it has.
 */
bool conn_settle_unseen(struct conn *c, int fd);

/* Has nothing come or gone on it for so long, or for three round trips where these are longer? */
bool conn_rested(const struct conn *c, int fd, int64_t now, int64_t ns);

/* Does the kernel hold bytes that the program has not read? */
bool conn_has_unread(int fd);

/* Has the other side said its last, and was it read? Nothing will be asked on it any more. */
bool conn_peer_ended(int fd);

/* Did every byte that the kernel gave out pass by us? */
bool conn_seen_whole(const struct conn *c, int fd);

/* This program has said and heard nothing on it yet: as good as still in the accept queue. */
bool conn_untouched(const struct conn *c);

/* The next number from fd on that has a record, or -1. */
int conn_next(int fd);

#endif
