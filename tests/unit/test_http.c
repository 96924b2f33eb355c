/* SPDX-License-Identifier: MIT */
/* http: conversations, and where the connection stands after each step, however the bytes are cut. */
#include "model/http.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum stand { FRESH, BUSY, PARTIAL, BOUNDARY, NO, NEVER, OVER, OVER_PARTIAL };

static const char *const names[] = {"FRESH", "BUSY", "PARTIAL", "BOUNDARY", "NO", "NEVER", "OVER", "OVER_PARTIAL"};

struct step {
	enum { END, READ, WROTE, READ_UNSEEN, WROTE_UNSEEN } what;
	const char *bytes;
	uint64_t n;
	enum stand after;
};

/* clang-format off */
#define R(bytes, after) {READ, bytes, sizeof(bytes) - 1, after}
#define W(bytes, after) {WROTE, bytes, sizeof(bytes) - 1, after}
#define RU(n, after) {READ_UNSEEN, NULL, n, after}
#define WU(n, after) {WROTE_UNSEEN, NULL, n, after}
/* clang-format on */

static enum stand stand(const struct http *h)
{
	bool partial = http_partial(h);

	if (http_at_boundary(h)) {
		cr_assert_eq(http_kind(h), HTTP_YES);
		cr_assert_not(partial);
		return BOUNDARY;
	}
	switch (http_kind(h)) {
	case HTTP_UNKNOWN:
		return FRESH;
	case HTTP_YES:
		return partial ? PARTIAL : BUSY;
	case HTTP_NO:
		cr_assert_not(partial);
		return NO;
	case HTTP_NEVER:
		cr_assert_not(partial);
		return NEVER;
	default:
		return partial ? OVER_PARTIAL : OVER;
	}
}

static void take(struct http *h, const struct step *s, uint64_t from, uint64_t n)
{
	if (s->what == READ || s->what == WROTE) {
		char *copy = malloc(n + 1); /* of its own size: the sanitizer sees a read behind it */

		memcpy(copy, s->bytes + from, n);
		copy = realloc(copy, n ? n : 1);
		(s->what == READ ? http_read : http_wrote)(h, copy, n);
		free(copy);
	} else {
		(s->what == READ_UNSEEN ? http_read_unseen : http_wrote_body)(h, n);
	}
}

/* Each step whole, each cut in two at every byte, each a few bytes at a time: the same must come of all. */
static void converse(const char *name, const struct step *steps)
{
	for (const struct step *cut = steps; cut->what; cut++) {
		for (uint64_t at = 0; at <= cut->n; at++) {
			struct http h = {0};

			for (const struct step *s = steps; s->what; s++) {
				take(&h, s, 0, s == cut ? at : s->n);
				if (s == cut)
					take(&h, s, at, s->n - at);
				cr_assert_eq(stand(&h), s->after,
					     "%s: step %zu is %s and not %s, with step %zu cut at %zu", name,
					     (size_t)(s - steps), names[stand(&h)], names[s->after],
					     (size_t)(cut - steps), (size_t)at);
			}
		}
	}
	for (uint64_t piece = 1; piece <= 7; piece++) {
		struct http h = {0};

		for (const struct step *s = steps; s->what; s++) {
			for (uint64_t at = 0; at < s->n; at += piece)
				take(&h, s, at, s->n - at < piece ? s->n - at : piece);
			cr_assert_eq(stand(&h), s->after, "%s: step %zu is %s and not %s, in pieces of %zu", name,
				     (size_t)(s - steps), names[stand(&h)], names[s->after], (size_t)piece);
		}
	}
}

#define CONVERSATION(name, ...)                                                                                        \
	Test(http, name)                                                                                               \
	{                                                                                                              \
		converse(#name, (const struct step[]){__VA_ARGS__, {END, NULL, 0, FRESH}});                            \
	}

#define GET "GET /a?b=c HTTP/1.1\r\nHost: x\r\nCookie: c=d\r\nAccept: */*\r\n\r\n"
#define HEAD "HEAD /a HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"
#define OK "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTrace: t\r\nContent-Length: 5\r\n\r\n"
#define OK0 "HTTP/1.1 200 OK\r\nConnection: Keep-Alive\r\ncontent-length: 0\r\n\r\n"

CONVERSATION(get_is_answered, R(GET, BUSY), W(OK "hello", BOUNDARY), R(GET, BUSY), W(OK0, BOUNDARY), R("G", PARTIAL),
	     R("ET /", PARTIAL))

CONVERSATION(answer_in_many_pieces, R(GET, BUSY), W("HTTP/1.1 200 OK\r\n", BUSY), W("Content-Length: 10\r\n", BUSY),
	     W("\r\n", BUSY), W("hel", BUSY), W("lo", BUSY), W("worl", BUSY), W("d", BOUNDARY))

CONVERSATION(any_case_of_header_names, R("POST / HTTP/1.1\r\nCONTENT-LENGTH:3\r\n\r\n", PARTIAL), R("abc", BUSY),
	     W("HTTP/1.1 200 OK\r\ncOnTent-lEngth:  3 \r\n\r\n", BUSY), W("abc", BOUNDARY))

CONVERSATION(line_feeds_alone_end_lines, R("GET / HTTP/1.1\nHost: x\n\n", BUSY),
	     W("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", BOUNDARY))

CONVERSATION(empty_lines_between_requests_are_nothing, R("\r\n", FRESH), R(GET, BUSY), W(OK0, BOUNDARY),
	     R("\r\n\r\n", BOUNDARY), R(GET, BUSY), W(OK0, BOUNDARY))

CONVERSATION(pipelined_and_answered_in_one_write, R(GET GET GET, BUSY), W(OK "hello" OK0, BUSY),
	     W(OK "again", BOUNDARY))

CONVERSATION(pipelined_with_a_part_of_the_next, R(GET GET "GET /c HT", PARTIAL), W(OK "hello" OK0, PARTIAL),
	     R("TP/1.1\r\n\r\n", BUSY), W(OK0, BOUNDARY))

CONVERSATION(head_has_no_body, R(HEAD, BUSY), W(OK, BOUNDARY), R(GET HEAD GET HEAD, BUSY), W(OK "hello", BUSY),
	     W(OK OK "hello", BUSY), W("HTTP/1.1 200 OK\r\n\r\n", BOUNDARY), R(HEAD, BUSY),
	     W("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", BOUNDARY), R(GET, BUSY), W(OK, BUSY),
	     W("hello", BOUNDARY))

CONVERSATION(not_modified_has_no_body, R(GET, BUSY),
	     W("HTTP/1.1 304 Not Modified\r\nContent-Length: 700\r\n\r\n", BOUNDARY), R(GET, BUSY),
	     W("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", BOUNDARY), R(GET, BUSY),
	     W("HTTP/1.1 304 N\r\n\r\n", BOUNDARY))

CONVERSATION(no_content_has_no_body, R("DELETE /a HTTP/1.1\r\n\r\n", BUSY),
	     W("HTTP/1.1 204 No Content\r\n\r\n", BOUNDARY))

CONVERSATION(early_hints_are_no_answer, R(GET, BUSY), W("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n", BUSY),
	     W("HTTP/1.1 102 P\r\n\r\n", BUSY), W(OK "hello", BOUNDARY))

#define POST "POST /a HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n"

CONVERSATION(post_waits_for_its_body, R(POST "\r\n", PARTIAL), R("ab", PARTIAL), R("cd", BUSY), W(OK0, BOUNDARY),
	     R(POST "\r\nabcd" GET, BUSY), W(OK0, BUSY), W(OK0, BOUNDARY))

CONVERSATION(continue_and_body, R(POST "Expect: 100-continue\r\n\r\n", PARTIAL),
	     W("HTTP/1.1 100 Continue\r\n\r\n", PARTIAL), R("abcd", BUSY), W(OK0, BOUNDARY))

CONVERSATION(answered_before_the_body_was_read, R(POST "\r\nab", PARTIAL),
	     W("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", PARTIAL), R("c", PARTIAL), R("d", BOUNDARY),
	     R(GET, BUSY), W(OK0, BOUNDARY))

CONVERSATION(refused_before_the_body_was_read, R(POST "\r\nab", PARTIAL),
	     W("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", OVER_PARTIAL))

CONVERSATION(chunked_request, R("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", PARTIAL),
	     R("3\r\nabc\r\n", PARTIAL), R("0\r\n", PARTIAL), R("\r\n", BUSY), W(OK0, BOUNDARY))

#define CHUNKED "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"

CONVERSATION(chunked_with_trailers, R(GET, BUSY), W(CHUNKED, BUSY), W("5;ext=1\r\nhello\r\n", BUSY),
	     W("A\r\n0123456789\r\n", BUSY), W("0\r\nX-Sum: 1\r\nConnection-Of: it\r\n", BUSY), W("\r\n", BOUNDARY),
	     R(GET, BUSY), W(CHUNKED "1\r\n0\r\n0\r\n\r\n", BOUNDARY))

CONVERSATION(sendfile_body, R(GET, BUSY), W(OK, BUSY), WU(2, BUSY), WU(3, BOUNDARY), R(GET, BUSY), W(OK "h", BUSY),
	     WU(4, BOUNDARY), R(GET GET, BUSY), W(OK, BUSY), WU(5, BUSY), W(OK "hello", BOUNDARY))

CONVERSATION(sendfile_of_chunks, R(GET, BUSY), W(CHUNKED "5\r\n", BUSY), WU(5, BUSY), W("\r\n3\r\na", BUSY),
	     WU(2, BUSY), W("\r\n0\r\n\r\n", BOUNDARY))

CONVERSATION(sendfile_past_the_body, R(GET, BUSY), W(OK, BUSY), WU(6, NEVER))
CONVERSATION(sendfile_past_the_chunk, R(GET, BUSY), W(CHUNKED "5\r\n", BUSY), WU(6, NEVER))
CONVERSATION(sendfile_of_a_head, R(GET, BUSY), WU(100, NEVER))
CONVERSATION(sendfile_when_nothing_is_asked, R(GET, BUSY), W(OK0, BOUNDARY), WU(1, NEVER))

CONVERSATION(spliced_request_body, R(POST "\r\n", PARTIAL), RU(3, PARTIAL), RU(1, BUSY), W(OK0, BOUNDARY), RU(1, NEVER))
CONVERSATION(spliced_past_the_request_body, R(POST "\r\n", PARTIAL), RU(5, NEVER))
CONVERSATION(spliced_from_the_start, RU(1, NO), W("x", NO), WU(1, NO), RU(1, NO))

CONVERSATION(until_close, R(GET, BUSY), W("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", NEVER),
	     W("hello", NEVER), R(GET, NEVER), WU(3, NEVER))
CONVERSATION(until_close_of_http_1_0, R("GET / HTTP/1.0\r\n\r\n", BUSY),
	     W("HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n", NEVER), W("hello", NEVER))
CONVERSATION(unknown_transfer_encoding, R(GET, BUSY), W("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", NEVER))
CONVERSATION(unknown_transfer_encoding_and_length, R(GET, BUSY),
	     W("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 5\r\n\r\n", NEVER))
CONVERSATION(event_stream_until_close, R(GET, BUSY),
	     W("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", NEVER), W("data: 1\n\n", NEVER))
CONVERSATION(event_stream_in_chunks, R(GET, BUSY),
	     W("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n", BUSY),
	     W("9\r\ndata: 1\n\n\r\n", BUSY), W("9\r\ndata: 2\n\n\r\n", BUSY), W("0\r\n\r\n", BOUNDARY))

#define UPGRADE "GET /ws HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"

CONVERSATION(upgrade_is_taken, R(UPGRADE, BUSY),
	     W("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", NEVER),
	     W("\x81\x01x", NEVER), R("\x81\x81mask?", NEVER))
CONVERSATION(upgrade_is_ignored, R(UPGRADE, BUSY), W(OK "hello", BOUNDARY), R(GET, BUSY), W(OK0, BOUNDARY))
CONVERSATION(upgrade_with_frames_in_haste, R(UPGRADE, BUSY), R("\x81\x81mask?", NEVER))
CONVERSATION(connect_is_a_tunnel_from_the_start, R("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", NEVER),
	     W("HTTP/1.1 200 OK\r\n\r\n", NEVER))
CONVERSATION(icecast_source_streams, R("SOURCE /a ICE/1.0\r\n\r\n", NEVER), W("HTTP/1.0 200 OK\r\n\r\n", NEVER))
CONVERSATION(connect_is_a_tunnel, R(GET, BUSY), W(OK0, BOUNDARY),
	     R("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", NEVER), W("HTTP/1.1 200 OK\r\n\r\n", NEVER))

CONVERSATION(server_says_the_last_word, R(GET, BUSY),
	     W("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n", BUSY), W("o", BUSY), W("k", OVER),
	     R(GET, OVER), W("x", NEVER))
CONVERSATION(client_asks_for_the_last_word, R(GET "GET / HTTP/1.1\r\nConnection: close\r\n\r\n", BUSY),
	     W(OK "hello", BUSY), W(OK, BUSY), W("hello", OVER))
CONVERSATION(last_word_in_chunks, R(GET, BUSY),
	     W("HTTP/1.1 200 OK\r\nconnection: CLOSE\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", BUSY),
	     W("0\r\n\r\n", OVER))
CONVERSATION(more_than_the_last_word, R(GET GET, BUSY),
	     W("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" OK0, NEVER))
CONVERSATION(http_1_0_ends, R("GET / HTTP/1.0\r\n\r\n", BUSY),
	     W("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", OVER))
CONVERSATION(http_1_0_keeps_alive, R("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", BUSY),
	     W("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", BOUNDARY),
	     R("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", BUSY),
	     W("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", OVER))
CONVERSATION(old_continue_is_not_the_last_word, R(POST "\r\n", PARTIAL), W("HTTP/1.0 100 Continue\r\n\r\n", PARTIAL),
	     R("abcd", BUSY), W(OK0, BOUNDARY))
CONVERSATION(proxies_have_the_last_word_too, R("GET / HTTP/1.1\r\nProxy-Connection: close\r\n\r\n", BUSY), W(OK0, OVER))
CONVERSATION(head_and_the_last_word, R(HEAD, BUSY),
	     W("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n", OVER))

CONVERSATION(tls, R("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", NO), W("\x16\x03\x03", NO),
	     R("GET / HTTP/1.1\r\n\r\n", NO))
CONVERSATION(http2_preface, R("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", NO))
CONVERSATION(memcached, R("get foo\r\n", NO), W("END\r\n", NO))
CONVERSATION(redis, R("*1\r\n$4\r\nPING\r\n", NO), W("+PONG\r\n", NO))
CONVERSATION(redis_inline, R("GET foo\r\n", NO), W("$-1\r\n", NO))
CONVERSATION(redis_inline_like_http_0_9, R("GET /foo\r\n", PARTIAL), W("$-1\r\n", NO), R("GET /foo\r\n", NO))
CONVERSATION(http_0_9, R("GET /\r\n\r\n", NO))
CONVERSATION(rtsp, R("OPTIONS rtsp://a/b RTSP/1.0\r\nCSeq: 1\r\n\r\n", NO))
CONVERSATION(server_speaks_first, W("220 mail\r\n", NO), R("EHLO a\r\n", NO))
CONVERSATION(server_speaks_first_and_says_nothing, W("\r\n", NO))
CONVERSATION(answer_before_the_first_request, W(OK0, NO))
CONVERSATION(refused_within_the_first_head, R("GET /", PARTIAL), W("HTTP/1.1 408 Timeout\r\n", NO))

CONVERSATION(garbage_after_a_request, R(GET, BUSY), W(OK0, BOUNDARY), R("\x16\x03", NEVER), W(OK0, NEVER))
CONVERSATION(garbage_for_an_answer, R(GET, BUSY), W("hello", NEVER))
CONVERSATION(garbage_behind_an_answer, R(GET, BUSY), W(OK "hello, and more", NEVER))
CONVERSATION(answer_to_nothing, R(GET, BUSY), W(OK0, BOUNDARY),
	     W("HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n", NEVER))
CONVERSATION(refused_within_a_head, R(GET, BUSY), W(OK0, BOUNDARY), R("GET /", PARTIAL),
	     W("HTTP/1.1 408 Timeout\r\n", NEVER))
CONVERSATION(two_lengths, R("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", NO))
CONVERSATION(length_and_chunks, R(GET, BUSY), W(OK0, BOUNDARY),
	     R("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", NEVER))
CONVERSATION(length_of_no_number, R(GET, BUSY), W("HTTP/1.1 200 OK\r\nContent-Length: 3x\r\n\r\n", NEVER))
CONVERSATION(length_too_great, R(GET, BUSY),
	     W("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n", NEVER))
CONVERSATION(length_goes_on_in_the_next_line, R("POST / HTTP/1.1\r\nContent-Length: 1\r\n 2\r\n\r\n", NO))
CONVERSATION(length_goes_on_behind_a_tab, R("POST / HTTP/1.1\r\nContent-Length: 1\r\n\t2\r\n\r\n", NO))
CONVERSATION(folded_lines, R("GET / HTTP/1.1\r\nConnection: keep-alive\r\nX: a\r\n b\r\n\r\n", BUSY), W(OK0, BOUNDARY))

Test(http, nothing_is_no_event)
{
	struct http h = {0};

	http_read(&h, "", 0);
	http_wrote(&h, "", 0);
	http_read_unseen(&h, 0);
	http_wrote_body(&h, 0);
	cr_assert_eq(stand(&h), FRESH);
}

static void write_all(struct http *h, int times, const char *bytes)
{
	for (int i = 0; i < times; i++) {
		cr_assert_eq(stand(h), BUSY);
		http_wrote(h, bytes, strlen(bytes));
	}
}

Test(http, remembers_64_heads_and_any_number_of_others)
{
	struct http h = {0};

	for (int i = 0; i < 64; i++)
		http_read(&h, HEAD, strlen(HEAD));
	for (int i = 64; i < 1000; i++)
		http_read(&h, GET, strlen(GET));
	write_all(&h, 64, OK);
	write_all(&h, 1000 - 64, OK "hello");
	cr_assert_eq(stand(&h), BOUNDARY);
}

Test(http, knows_when_there_are_too_many_to_remember)
{
	struct http heads = {0}, gets = {0};

	for (int i = 0; i < 64; i++)
		http_read(&heads, GET, strlen(GET));
	cr_assert_eq(stand(&heads), BUSY);
	http_read(&heads, HEAD, strlen(HEAD));
	cr_assert_eq(stand(&heads), NEVER);
	for (int i = 0; i < UINT16_MAX; i++)
		http_read(&gets, GET, strlen(GET));
	cr_assert_eq(stand(&gets), BUSY);
	http_read(&gets, GET, strlen(GET));
	cr_assert_eq(stand(&gets), NEVER);
}

Test(http, counts_bodies_past_4_gigabytes)
{
	struct http h = {0};

	http_read(&h, GET, strlen(GET));
	http_wrote(&h, "HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n", 47);
	http_wrote_body(&h, UINT64_C(4999999999));
	cr_assert_eq(stand(&h), BUSY);
	http_wrote(&h, "x", 1);
	cr_assert_eq(stand(&h), BOUNDARY);
}

/* A head longer than http_parser takes is not HTTP that we follow; it must not be a boundary either. */
Test(http, gives_up_on_a_head_without_end)
{
	struct http h = {0};

	http_read(&h, "GET / HTTP/1.1\r\n", 16);
	for (int i = 0; i < 20000; i++)
		http_read(&h, "X: abcd\r\n", 9);
	cr_assert_eq(stand(&h), NO);
}

static enum http_stream stream_after(const char *request, const char *response)
{
	struct http h = {0};

	http_read(&h, request, strlen(request));
	http_wrote(&h, response, strlen(response));
	return http_stream(&h);
}

#define SWITCH "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
#define EVENTS "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"

Test(http, tunnels_and_events_are_streams)
{
	cr_assert_eq(stream_after(UPGRADE, SWITCH), HTTP_TUNNEL);
	cr_assert_eq(stream_after("CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"),
		     HTTP_TUNNEL);
	cr_assert_eq(stream_after(GET, EVENTS "\r\ndata: 1\n\n"), HTTP_EVENTS);
	cr_assert_eq(stream_after(GET, EVENTS "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"), HTTP_EVENTS);
}

Test(http, whatever_has_an_end_is_no_stream)
{
	cr_assert_not(stream_after(UPGRADE, OK "hello"));
	cr_assert_not(stream_after(GET, EVENTS "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n0\r\n\r\n"));
	cr_assert_not(stream_after(
		GET,
		"HTTP/1.1 200 OK\r\nContent-Type: text/event-streams\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"));
	cr_assert_not(stream_after(GET, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nto the end"));
	cr_assert_not(stream_after(GET, "HTTP/1.1 200 OK\r\nX: text/event-stream\r\n\r\nto the end"));
}
