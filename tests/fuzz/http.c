/* SPDX-License-Identifier: MIT */
/*
 * Random conversations through http.c, whose boundaries are known; and garbled ones, which must come out the same
 * however they are cut.
 */
#include "model/http.h"

#include "../support/mutate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: conversation %llu: not so: %s\n", __FILE__, __LINE__, conversation,    \
				#condition);                                                                           \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

static unsigned long long conversation; /* its seed: `http 1 SEED` runs it alone */

const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void)
{
	return "halt_on_error=1:abort_on_error=1:print_stacktrace=1";
}

#define PICK(r, ...)                                                                                                   \
	((const char *[]){__VA_ARGS__})[random_below((r), sizeof((const char *[]){__VA_ARGS__}) / sizeof(const char *))]

/* ---- messages ---- */

enum { TEXT_MAX = 8192, STEP_MAX = 64 };

struct message {
	char bytes[TEXT_MAX];
	size_t n;
};

static void add(struct message *m, const char *text)
{
	size_t n = strlen(text);

	CHECK(m->n + n <= TEXT_MAX);
	memcpy(m->bytes + m->n, text, n);
	m->n += n;
}

static void add_header(struct random *r, struct message *m)
{
	add(m, PICK(r, "Host: x", "Cookie: a=b; c=d", "Accept:", "content-type: text/plain", "TE: trailers",
		    "X: Content-Length: 7", "a:b", "Connection: keep-alive", "connection: keep-alive",
		    "CONNECTION: Keep-Alive", "Content-Language: de", "Trailer: X", "Connection-Of: close",
		    "Content-Lengthy: 9", "Transfer: chunked", "Proxy-Authorization: x", "Upgrade-Insecure-Requests: 1",
		    "Connections: close", "Priority: u=1"));
	add(m, "\r\n");
}

static void add_body(struct random *r, struct message *m)
{
	static const char misleading[] = "HTTP/1.1 200 OK\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n";
	size_t n = random_below(r, 300);
	bool chunked = random_one_in(r, 2);
	char line[64];

	if (chunked)
		add(m, PICK(r, "Transfer-Encoding: chunked\r\n", "transfer-encoding:chunked\r\n",
			    "Transfer-Encoding: gzip, chunked\r\n"));
	else
		snprintf(line, sizeof(line),
			 PICK(r, "Content-Length: %zu\r\n", "content-length: %zu\r\n", "Content-length:%zu \r\n"), n);
	if (!chunked)
		add(m, line);
	while (random_one_in(r, 2))
		add_header(r, m);
	add(m, "\r\n");
	for (size_t left = n, now; left; left -= now) {
		now = chunked ? 1 + random_below(r, left) : left;
		snprintf(line, sizeof(line), "%zX%s\r\n", now, PICK(r, "", ";x=y"));
		if (chunked)
			add(m, line);
		for (size_t i = 0; i < now; i++)
			m->bytes[m->n++] = misleading[i % (sizeof(misleading) - 1)];
		if (chunked)
			add(m, "\r\n");
	}
	if (chunked)
		add(m, PICK(r, "0\r\n\r\n", "0\r\nX-Trailer: 1\r\nContent-Length: 5\r\n\r\n", "000;x\r\n\r\n"));
}

static void add_headers(struct random *r, struct message *m)
{
	while (!random_one_in(r, 4))
		add_header(r, m);
}

/* Whether it is a HEAD. */
static bool add_request(struct random *r, struct message *m)
{
	const char *method = PICK(r, "GET", "GET", "HEAD", "POST", "PUT", "OPTIONS", "REPORT");

	add(m, method);
	add(m, PICK(r, " / ", " /a?b=%20 ", " /a/b/c "));
	add(m, "HTTP/1.1\r\n");
	add_headers(r, m);
	if (method[0] == 'P')
		add_body(r, m);
	else
		add(m, "\r\n");
	return method[0] == 'H';
}

static void add_response(struct random *r, struct message *m, bool head)
{
	while (random_one_in(r, 8))
		add(m, PICK(r, "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"));
	if (head || random_one_in(r, 5)) {
		add(m, head ? "HTTP/1.1 200 OK\r\n" : PICK(r, "HTTP/1.1 304 Not Modified\r\n", "HTTP/1.1 204\r\n"));
		add_headers(r, m);
		add(m, PICK(r, "\r\n", "Content-Length: 12\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"));
		return;
	}
	add(m, PICK(r, "HTTP/1.1 200 OK\r\n", "HTTP/1.1 404 Not Found\r\n", "HTTP/1.1 200\r\n"));
	add_headers(r, m);
	add_body(r, m);
}

/* ---- conversations ---- */

struct step {
	bool wrote;
	unsigned waiting; /* requests that are unanswered behind it */
	struct message message;
};

static struct step steps[STEP_MAX];

static size_t converse(struct random *r)
{
	bool heads[STEP_MAX];
	size_t asked = 0, answered = 0, n = 1 + random_below(r, STEP_MAX);

	for (size_t i = 0; i < n; i++) {
		struct step *s = &steps[i];

		s->message.n = 0;
		s->wrote = answered < asked && !random_one_in(r, 3);
		if (s->wrote) {
			add_response(r, &s->message, heads[answered]);
			answered++;
		} else {
			heads[asked++] = add_request(r, &s->message);
		}
		s->waiting = asked - answered;
	}
	return n;
}

/* Memory of exactly this size: the sanitizer sees what is read behind it. */
static void feed(struct http *h, const struct step *s, size_t from, size_t n)
{
	char *copy = malloc(n ? n : 1);

	memcpy(copy, s->message.bytes + from, n);
	(s->wrote ? http_wrote : http_read)(h, copy, n);
	free(copy);
}

static void feed_in_pieces(struct random *r, struct http *h, const struct step *s, size_t most)
{
	for (size_t at = 0, n; at < s->message.n; at += n) {
		n = 1 + random_below(r, most);
		if (n > s->message.n - at)
			n = s->message.n - at;
		feed(h, s, at, n);
	}
}

static void sound(struct random *r, size_t n)
{
	struct http h = {0};

	for (size_t i = 0; i < n; i++) {
		feed_in_pieces(r, &h, &steps[i], random_one_in(r, 2) ? TEXT_MAX : 1 + random_below(r, 200));
		CHECK(http_kind(&h) == HTTP_YES);
		CHECK(http_at_boundary(&h) == (steps[i].waiting == 0));
		CHECK(!http_partial(&h));
		CHECK(h.unanswered == steps[i].waiting);
	}
}

/*
 * Bytes changed, cut out and doubled. A plain head is looked at less closely than http_parser does. So when the pieces
 * are still followed, the whole must be too, and in the same place.
 */
static void garbled(struct random *r, size_t n)
{
	struct http whole = {0}, pieces = {0};

	for (size_t times = 1 + random_below(r, 3); times; times--) {
		struct message *m = &steps[random_below(r, n)].message;
		size_t at = random_below(r, m->n), length = random_below(r, m->n - at < 20 ? m->n - at : 20);

		switch (random_below(r, 3)) {
		case 0:
			m->bytes[at] = random_one_in(r, 2) ? "\r\n :09AaT"[random_below(r, 9)] : (char)random_next(r);
			break;
		case 1:
			memmove(m->bytes + at, m->bytes + at + length, m->n - at - length);
			m->n -= length;
			break;
		default:
			if (m->n + length > TEXT_MAX)
				break;
			memmove(m->bytes + at + length, m->bytes + at, m->n - at);
			m->n += length;
		}
	}
	for (size_t i = 0; i < n; i++) {
		enum http_kind kind;

		feed(&whole, &steps[i], 0, steps[i].message.n);
		feed_in_pieces(r, &pieces, &steps[i], 1 + random_below(r, 8));
		kind = http_kind(&pieces);
		if (kind == HTTP_NO || kind == HTTP_NEVER)
			return;
		CHECK(http_kind(&whole) == kind);
		CHECK(http_at_boundary(&whole) == http_at_boundary(&pieces));
		CHECK(http_partial(&whole) == http_partial(&pieces));
		CHECK(whole.unanswered == pieces.unanswered && whole.heads == pieces.heads);
	}
}

int main(int argc, char **argv)
{
	uint64_t count, seed;

	if (argc != 3) {
		fprintf(stderr, "usage: http COUNT SEED\n");
		return 2;
	}
	count = strtoull(argv[1], NULL, 10);
	seed = strtoull(argv[2], NULL, 10);
	for (uint64_t i = 0; i < count; i++) {
		struct random r = {.state = conversation = seed + i};
		size_t n = converse(&r);

		sound(&r, n);
		garbled(&r, n);
	}
	printf("%llu conversations, and as many garbled ones\n", (unsigned long long)count);
	return 0;
}
