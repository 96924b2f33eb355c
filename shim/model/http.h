/* SPDX-License-Identifier: MIT */
/* The state of an HTTP/1.x connection, as the server sees it: it reads requests and writes responses. */
#ifndef CPR_MODEL_HTTP_H
#define CPR_MODEL_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A signal handler may call all of these: nothing is allocated, locked or printed. The caller makes one call at a time
 * for a connection, and in the right order. What was read is passed here before the program sees it; what was written,
 * after write() has returned, with its count. Bytes of MSG_PEEK do not count as read.
 *
 * Common heads that arrive in one piece are framed here. All others go through the library http_parser, whose state is
 * kept between calls. Bodies are counted, not parsed.
 */

/* One direction: the message under way. */
struct http_way {
	uint64_t left;      /* bytes to come of the body or chunk, when `body` says so */
	uint32_t parser;    /* http_parser's own flags and state; 0: between messages */
	uint32_t head : 24; /* its count of header bytes */
	uint32_t body : 2;  /* enum body in model/http.c */
	uint32_t open : 1;  /* a message has begun and is not complete */
};

/* Zero-initialised: a connection without data yet. */
struct http {
	struct http_way request;
	struct http_way response;
	uint64_t heads;      /* bit n: the nth unanswered request is a HEAD */
	uint16_t unanswered; /* requests whose head was read, and whose response is not complete */
	uint16_t status;     /* of http_parser: the response's status, the request's method, and both versions */
	uint8_t method;
	uint8_t versions[2];
	uint8_t kind : 3;       /* enum http_kind, as far as a whole request has proved it */
	uint8_t asked_last : 1; /* a request announced that it is the last one */
	uint8_t says_last : 1;  /* the response under way announces it */
	uint8_t stream : 2;     /* enum http_stream, as long as no answer is complete */
	uint8_t typed : 1;      /* of http_parser's callbacks: the next value is the content's type */
};

_Static_assert(sizeof(struct http) <= 48, "a connection must stay cheap to remember");

enum http_kind {
	HTTP_UNKNOWN, /* nothing of a request was read, nothing was written */
	HTTP_YES,     /* requests and responses, framed so far. A mere beginning counts, and may turn into HTTP_NO */
	/* the first bytes are no request of HTTP/1.x, or the server sent first: TLS, HTTP/2, memcached… */
	HTTP_NO,
	/* was HTTP, and comes to no boundary any more: a response without an end, 101, CONNECT, garbage */
	HTTP_NEVER,
	HTTP_OVER, /* the last response is complete: the server will close it. Nothing is cut by closing, and nothing to
		      be carried. With http_partial() the client may still be sending a body */
};

/* Can further bytes still change the state? If it is no HTTP, they need not be passed here. */
static inline bool http_is_followed(const struct http *h)
{
	return h->kind != HTTP_NO && h->kind != HTTP_NEVER;
}

/* The server read these n bytes from the client. */
void http_read(struct http *h, const void *bytes, size_t n);

/*
 * The server read n bytes unseen (splice). That is right inside a request's body; elsewhere tracking of the connection
 * ends.
 */
void http_read_unseen(struct http *h, uint64_t n);

/* The server wrote these n bytes to the client. */
void http_wrote(struct http *h, const void *bytes, size_t n);

/* The server wrote n bytes unseen (sendfile, splice). That is right inside a response's body; elsewhere as above. */
void http_wrote_body(struct http *h, uint64_t n);

/*
 * All requests were answered, by bytes that the library did not see. Does nothing amid a request or a response that was
 * seen in part. Returns whether a request was unanswered.
 */
bool http_answered_unseen(struct http *h);

enum http_kind http_kind(const struct http *h);

/* HTTP_YES, every request that was read has its full response, and no byte of a further one was read. */
bool http_at_boundary(const struct http *h);

/*
 * Has the connection become a stream: a tunnel (101, CONNECT), or a response of server-sent events? A stream has
 * silences and no boundary. If it ends in a silence, its client takes nothing for a complete answer. A response that
 * only the end of the connection delimits is no stream: its client would. (In a head that is written in pieces, the
 * content type of events is not found.)
 */
enum http_stream { HTTP_NO_STREAM, HTTP_TUNNEL, HTTP_EVENTS };
enum http_stream http_stream(const struct http *h);

/* Was a request read in part: of its head, or of its body (which may already have its response)? */
bool http_partial(const struct http *h);

#endif
