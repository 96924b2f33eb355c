/* SPDX-License-Identifier: MIT */
/* Where an HTTP/1.x connection stands: plain heads at a glance, everything else by http_parser. */
#include "model/http.h"

#include "base/attr.h"
#include "model/http_head.h"

#include <http_parser.h>
#include <string.h>
#include <strings.h>

enum body {
	BODY_NONE,
	BODY_COUNTED, /* Content-Length: ours, http_parser sees no body */
	BODY_CHUNK,   /* the data of a chunk; http_parser is inside it */
};

/* The first word of http_parser is kept as it is: its bit-fields up to here. */
_Static_assert(offsetof(http_parser, nread) == sizeof(uint32_t), "another http_parser");

/* --- what requests and responses do to the connection ------------------------------------------- */

static bool alive(const struct http *h)
{
	return h->kind == HTTP_UNKNOWN || h->kind == HTTP_YES;
}

static void lost(struct http *h)
{
	h->kind = h->kind == HTTP_UNKNOWN || h->kind == HTTP_NO ? HTTP_NO : HTTP_NEVER;
	h->request.open = false;
}

/* A request's head is complete. False if there is no room to remember it. */
static bool asked(struct http *h, bool head)
{
	if (h->unanswered == UINT16_MAX || (head && h->unanswered >= 64))
		return false;
	if (head)
		h->heads |= UINT64_C(1) << h->unanswered;
	h->unanswered++;
	h->kind = HTTP_YES;
	return true;
}

static void answered(struct http *h)
{
	h->heads >>= 1;
	h->unanswered--;
	h->stream = HTTP_NO_STREAM;
	if (h->says_last || (h->asked_last && h->unanswered == 0))
		h->kind = HTTP_OVER;
}

/* A message is complete; http_parser begins anew with the next. */
static void complete(struct http *h, struct http_way *way)
{
	way->parser = 0;
	way->body = BODY_NONE;
	way->open = false;
	if (way == &h->response)
		answered(h);
}

static bool bodiless(const struct http *h, unsigned status)
{
	return (h->heads & 1) || status / 100 == 1 || status == 204 || status == 304;
}

/* Takes a plain request's head off the bytes: how many that were, 0 if it is not plain. */
static size_t plain_request(struct http *h, const char *bytes, size_t n)
{
	struct http_head head;

	if (!http_head_of_request(&head, bytes, n) || !asked(h, head.only))
		return 0;
	if (head.last)
		h->asked_last = true;
	if (head.length > 0) {
		h->request.open = true;
		h->request.body = BODY_COUNTED;
		h->request.left = head.length;
	}
	return head.size;
}

static size_t plain_response(struct http *h, const char *bytes, size_t n)
{
	struct http_head head;
	bool bare;

	if (h->unanswered == 0 || !http_head_of_response(&head, bytes, n))
		return 0;
	bare = bodiless(h, head.status);
	if (!head.framed && !bare)
		return 0;
	if (head.last)
		h->says_last = true;
	if (bare || head.length == 0) {
		answered(h);
	} else {
		h->response.open = true;
		h->response.body = BODY_COUNTED;
		h->response.left = head.length;
	}
	return head.size;
}

/* --- all others: http_parser ----------------------------------------------------------------------
 *
 * A callback that returns -1 ends it: the connection is lost track of.
 */

static struct http_way *way_of(const http_parser *p)
{
	struct http *h = p->data;

	return p->type == HTTP_REQUEST ? &h->request : &h->response;
}

static int on_begin(http_parser *p)
{
	struct http *h = p->data;

	if (p->type == HTTP_RESPONSE && h->unanswered == 0)
		return -1;
	way_of(p)->open = true;
	return 0;
}

static bool has_length(const http_parser *p)
{
	return p->content_length != UINT64_MAX;
}

/* 0: chunks follow. 1: nothing that http_parser need know of. */
static int expect_body(http_parser *p)
{
	struct http_way *way = way_of(p);

	if (p->flags & F_CHUNKED)
		return 0;
	if (has_length(p) && p->content_length > 0) {
		way->body = BODY_COUNTED;
		way->left = p->content_length;
	}
	return 1;
}

static int on_request_head(http_parser *p)
{
	struct http *h = p->data;

	if (p->http_major != 1)
		return -1;
	h->kind = HTTP_YES;
	/* What CONNECT and SOURCE (of icecast) send afterwards is not HTTP. */
	if (p->method == HTTP_CONNECT || p->method == HTTP_SOURCE) {
		h->stream = HTTP_TUNNEL;
		return -1;
	}
	if (!asked(h, p->method == HTTP_HEAD))
		return -1;
	if (!http_should_keep_alive(p))
		h->asked_last = true;
	return expect_body(p); /* whether Upgrade changes anything is for the server to say: with 101, or not */
}

static int on_response_head(http_parser *p)
{
	struct http *h = p->data;
	bool bare = bodiless(h, p->status_code);

	if (p->status_code == 101)
		h->stream = HTTP_TUNNEL;
	if (p->http_major != 1 || p->status_code == 101)
		return -1;
	if (!bare && !(p->flags & F_CHUNKED) && !has_length(p))
		return -1; /* ends when the connection does */
	if (bare)
		p->flags |= F_SKIPBODY;
	if (p->status_code / 100 != 1 && !http_should_keep_alive(p))
		h->says_last = true;
	return bare ? 1 : expect_body(p);
}

static int on_head(http_parser *p)
{
	return p->type == HTTP_REQUEST ? on_request_head(p) : on_response_head(p);
}

#define IS(at, n, text) ((n) == sizeof(text) - 1 && !strncasecmp((at), (text), (n)))

static int on_field(http_parser *p, const char *at, size_t n)
{
	struct http *h = p->data;

	h->typed = p->type == HTTP_RESPONSE && IS(at, n, "Content-Type");
	return 0;
}

static int on_value(http_parser *p, const char *at, size_t n)
{
	static const char events[] = "text/event-stream";
	struct http *h = p->data;

	if (h->typed && n >= sizeof(events) - 1 && IS(at, sizeof(events) - 1, events))
		h->stream = HTTP_EVENTS;
	h->typed = false;
	return 0;
}

static int on_chunk(http_parser *p)
{
	if (p->content_length > 0)
		way_of(p)->body = BODY_CHUNK;
	return 0;
}

static int on_chunk_end(http_parser *p)
{
	way_of(p)->body = BODY_NONE;
	return 0;
}

/* Stops after each message: a plain one, or a body of ours, may follow. */
static int on_end(http_parser *p)
{
	struct http_way *way = way_of(p);

	if (p->type == HTTP_RESPONSE && p->status_code / 100 == 1)
		way->open = false;
	else if (way->body != BODY_COUNTED)
		complete(p->data, way);
	http_parser_pause(p, 1);
	return 0;
}

static const http_parser_settings settings = {
	.on_message_begin = on_begin,
	.on_header_field = on_field,
	.on_header_value = on_value,
	.on_headers_complete = on_head,
	.on_chunk_header = on_chunk,
	.on_chunk_complete = on_chunk_end,
	.on_message_complete = on_end,
};

static void load(http_parser *p, struct http *h, const struct http_way *way)
{
	int i = way == &h->response;

	http_parser_init(p, i ? HTTP_RESPONSE : HTTP_REQUEST);
	p->data = h;
	if (way->parser == 0)
		return;
	memcpy(p, &way->parser, sizeof(way->parser));
	p->nread = way->head;
	p->content_length = way->left;
	p->http_major = h->versions[i] >> 4;
	p->http_minor = h->versions[i] & 15;
	if (i)
		p->status_code = h->status;
	else
		p->method = h->method;
}

static void http_save(const http_parser *p, struct http *h, struct http_way *way)
{
	int i = way == &h->response;

	memcpy(&way->parser, p, sizeof(way->parser));
	way->head = p->nread;
	way->left = p->content_length;
	h->versions[i] = p->http_major << 4 | p->http_minor;
	if (i)
		h->status = p->status_code;
	else
		h->method = p->method;
}

/*
 * Returns how many bytes http_parser took: to the end of a message, or of a head whose body is ours. 0: they are not
 * HTTP.
 */
static size_t http_parse(struct http *h, struct http_way *way, const char *bytes, size_t n)
{
	http_parser p;
	size_t took;

	load(&p, h, way);
	took = http_parser_execute(&p, &settings, bytes, n);
	if (HTTP_PARSER_ERRNO(&p) == HPE_PAUSED)
		way->parser = 0;
	else if (HTTP_PARSER_ERRNO(&p) == HPE_OK && took == n)
		http_save(&p, h, way);
	else
		return 0;
	return took;
}

/* --- bytes, seen or not ---------------------------------------------------------------------------*/

/*
 * n bytes, at most `left`, of the body or chunk. The last byte of a chunk must be shown to http_parser, whatever it is.
 */
static void pass(struct http *h, struct http_way *way, uint64_t n)
{
	bool ends = n == way->left;

	if (ends && way->body == BODY_CHUNK) {
		way->left = 1;
		if (!http_parse(h, way, "", 1))
			lost(h);
		return;
	}
	way->left -= n;
	if (ends)
		complete(h, way);
}

static void seen(struct http *h, struct http_way *way, const char *bytes, size_t n)
{
	while (n > 0 && alive(h)) {
		size_t took = 0;

		if (way->body != BODY_NONE && way->left > 0) {
			took = n < way->left ? n : (size_t)way->left;
			pass(h, way, took);
		} else if (!way->open) {
			took = way == &h->request ? plain_request(h, bytes, n) : plain_response(h, bytes, n);
		}
		if (took == 0)
			took = http_parse(h, way, bytes, n);
		if (took == 0)
			lost(h);
		bytes += took;
		n -= took;
	}
	if (n > 0 && h->kind == HTTP_OVER && way == &h->response)
		lost(h);
}

static void unseen(struct http *h, struct http_way *way, uint64_t n)
{
	if (n == 0 || (h->kind == HTTP_OVER && way == &h->request))
		return;
	if (way->body == BODY_NONE || n > way->left)
		lost(h);
	else
		pass(h, way, n);
}

void http_read(struct http *h, const void *bytes, size_t n)
{
	seen(h, &h->request, bytes, n);
}

void http_wrote(struct http *h, const void *bytes, size_t n)
{
	if (n > 0 && h->kind == HTTP_UNKNOWN)
		lost(h);
	seen(h, &h->response, bytes, n);
}

void http_read_unseen(struct http *h, uint64_t n)
{
	unseen(h, &h->request, n);
}

void http_wrote_body(struct http *h, uint64_t n)
{
	unseen(h, &h->response, n);
}

bool http_answered_unseen(struct http *h)
{
	if (h->kind != HTTP_YES || h->request.open || h->response.open || !h->unanswered)
		return false;
	h->unanswered = 0;
	h->heads = 0;
	if (h->asked_last)
		h->kind = HTTP_OVER;
	return true;
}

enum http_kind http_kind(const struct http *h)
{
	return h->kind == HTTP_UNKNOWN && h->request.open ? HTTP_YES : (enum http_kind)h->kind;
}

bool http_at_boundary(const struct http *h)
{
	return h->kind == HTTP_YES && h->unanswered == 0 && !h->request.open;
}

enum http_stream http_stream(const struct http *h)
{
	bool goes_on = h->kind == HTTP_NEVER || (h->kind == HTTP_YES && h->response.open);

	return goes_on ? (enum http_stream)h->stream : HTTP_NO_STREAM;
}

bool http_partial(const struct http *h)
{
	return h->request.open;
}
