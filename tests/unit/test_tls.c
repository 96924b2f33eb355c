/* SPDX-License-Identifier: MIT */
/*
 * tls: handshakes and questions as OpenSSL's records show them, and where the connection is after each step, however
 * the bytes are cut.
 */
#include "model/tls.h"

#include <criterion/criterion.h>
#include <string.h>

enum { CCS = 20, ALERT, HS, DATA };

struct record {
	uint8_t type;
	uint16_t length;
};

struct step {
	char from; /* 'C'lient, 'S'erver; 0: the end */
	struct record records[6];
	enum tls_stage after;
};

/* The bytes of a step; how many. */
static size_t spell(const struct step *s, uint8_t *bytes)
{
	size_t n = 0;

	for (const struct record *r = s->records; r < s->records + 6 && r->type; r++) {
		const uint8_t head[] = {r->type, 3, 3, (uint8_t)(r->length >> 8), (uint8_t)r->length};

		memcpy(bytes + n, head, sizeof(head));
		memset(bytes + n + sizeof(head), 0x17, r->length);
		n += sizeof(head) + r->length;
	}
	return n;
}

static void take(struct tls *t, const struct step *s, const uint8_t *bytes, size_t n)
{
	(s->from == 'C' ? tls_read : tls_wrote)(t, bytes, n);
}

static void converse(const char *name, const struct step *steps)
{
	static uint8_t bytes[8192];

	for (size_t piece = 1; piece < sizeof(bytes); piece += piece < 16 ? 1 : 997) {
		struct tls t = {0};

		for (const struct step *s = steps; s->from; s++) {
			size_t n = spell(s, bytes);

			for (size_t at = 0; at < n; at += piece)
				take(&t, s, bytes + at, n - at < piece ? n - at : piece);
			cr_assert_eq(tls_stage(&t), s->after, "%s: step %zu is %d and not %d, in pieces of %zu", name,
				     (size_t)(s - steps), tls_stage(&t), s->after, piece);
		}
	}
}

#define CONVERSATION(name, ...)                                                                                        \
	Test(tls, name)                                                                                                \
	{                                                                                                              \
		converse(#name, (const struct step[]){__VA_ARGS__, {0}});                                              \
	}

/* clang-format off */
#define QUESTION {'C', {{DATA, 35}}, TLS_ASKED}
#define ANSWER {'S', {{DATA, 60}}, TLS_ANSWERED}
#define OPEN_12 {'C', {{HS, 157}}, TLS_HANDSHAKE}, {'S', {{HS, 65}, {HS, 395}, {HS, 116}, {HS, 4}}, TLS_HANDSHAKE}, \
		{'C', {{HS, 37}, {CCS, 1}, {HS, 40}}, TLS_HANDSHAKE}, {'S', {{HS, 186}, {CCS, 1}, {HS, 40}}, TLS_OPEN}
#define FLIGHT_13 {'C', {{HS, 220}}, TLS_HANDSHAKE}, \
		{'S', {{HS, 122}, {CCS, 1}, {DATA, 23}, {DATA, 415}, {DATA, 95}, {DATA, 69}}, TLS_HANDSHAKE}
#define OPEN_13 FLIGHT_13, {'C', {{CCS, 1}, {DATA, 69}}, TLS_OPEN}
#define TICKETS(after) {'S', {{DATA, 250}}, after}, {'S', {{DATA, 250}}, after}
/* clang-format on */

CONVERSATION(of_12_is_open_after_the_servers_finished, OPEN_12, QUESTION, ANSWER, QUESTION, ANSWER)
CONVERSATION(of_12_that_is_resumed_is_open_after_the_clients, {'C', {{HS, 300}}, TLS_HANDSHAKE},
	     {'S', {{HS, 90}, {CCS, 1}, {HS, 40}}, TLS_HANDSHAKE}, {'C', {{CCS, 1}, {HS, 40}}, TLS_OPEN}, QUESTION,
	     ANSWER)
CONVERSATION(of_12_with_a_false_start, {'C', {{HS, 157}}, TLS_HANDSHAKE},
	     {'S', {{HS, 65}, {HS, 395}, {HS, 116}, {HS, 4}}, TLS_HANDSHAKE},
	     {'C', {{HS, 37}, {CCS, 1}, {HS, 40}, {DATA, 42}}, TLS_HANDSHAKE}, {'S', {{CCS, 1}, {HS, 40}}, TLS_ASKED},
	     ANSWER)
CONVERSATION(of_12_that_is_renegotiated, OPEN_12, QUESTION, ANSWER, {'C', {{HS, 230}}, TLS_HANDSHAKE},
	     {'S', {{HS, 500}}, TLS_HANDSHAKE}, {'C', {{HS, 70}, {CCS, 1}, {HS, 40}}, TLS_HANDSHAKE})
CONVERSATION(of_13_has_tickets_that_answer_nothing, OPEN_13, TICKETS(TLS_OPEN), QUESTION, ANSWER, QUESTION, ANSWER)
CONVERSATION(of_13_asks_before_the_tickets_came, FLIGHT_13, {'C', {{CCS, 1}, {DATA, 69}, {DATA, 35}}, TLS_ASKED},
	     TICKETS(TLS_ASKED), ANSWER, QUESTION, ANSWER)
CONVERSATION(of_13_without_tickets_is_answered_from_the_second_on, OPEN_13, QUESTION, {'S', {{DATA, 60}}, TLS_ASKED},
	     QUESTION, {'S', {{DATA, 61}}, TLS_ANSWERED})
CONVERSATION(of_13_without_compatibility, {'C', {{HS, 190}}, TLS_HANDSHAKE},
	     {'S', {{HS, 90}, {DATA, 500}}, TLS_HANDSHAKE}, {'C', {{DATA, 53}}, TLS_OPEN}, QUESTION)
CONVERSATION(of_13_with_a_second_hello, {'C', {{HS, 220}}, TLS_HANDSHAKE}, {'S', {{HS, 88}, {CCS, 1}}, TLS_HANDSHAKE},
	     {'C', {{CCS, 1}, {HS, 512}}, TLS_HANDSHAKE},
	     {'S', {{HS, 187}, {DATA, 23}, {DATA, 415}, {DATA, 97}, {DATA, 69}}, TLS_HANDSHAKE},
	     {'C', {{DATA, 69}}, TLS_OPEN}, TICKETS(TLS_OPEN), QUESTION, ANSWER)
CONVERSATION(of_13_with_early_data, {'C', {{HS, 500}, {CCS, 1}, {DATA, 100}}, TLS_HANDSHAKE},
	     {'S', {{HS, 128}, {CCS, 1}, {DATA, 200}}, TLS_HANDSHAKE}, {'C', {{DATA, 21}, {DATA, 69}}, TLS_ASKED},
	     TICKETS(TLS_ASKED), ANSWER)
CONVERSATION(an_answer_of_many_records, OPEN_12, QUESTION, ANSWER, {'S', {{DATA, 1000}, {DATA, 1000}}, TLS_ANSWERED},
	     QUESTION)

Test(tls, a_record_in_part_is_a_question_under_way)
{
	static const uint8_t part[] = {DATA, 3, 3, 0, 35, 1, 2, 3};
	static uint8_t bytes[4096];
	struct tls t = {0};

	for (const struct step *s = (const struct step[]){OPEN_12, QUESTION, ANSWER, {0}}; s->from; s++)
		take(&t, s, bytes, spell(s, bytes));
	for (size_t n = 1; n <= sizeof(part); n++) {
		struct tls copy = t;

		tls_read(&copy, part, n);
		cr_assert_eq(tls_stage(&copy), TLS_ASKED);
	}
}

Test(tls, whatever_does_not_begin_with_a_hello_is_none)
{
	struct tls http = {0}, greeting = {0}, unseen = {0};

	tls_read(&http, "GET / HTTP/1.1\r\n", 16);
	tls_wrote(&greeting, "220 hello\r\n", 11);
	tls_read(&unseen, NULL, 100);
	cr_assert_not(tls_is_followed(&http) || tls_is_followed(&greeting) || tls_is_followed(&unseen));
}

Test(tls, is_lost_where_the_kernel_makes_the_records)
{
	static uint8_t bytes[4096];
	struct tls t = {0};

	for (const struct step *s = (const struct step[]){OPEN_13, {0}}; s->from; s++)
		take(&t, s, bytes, spell(s, bytes));
	tls_wrote(&t, "HTTP/1.1 200 OK\r\n", 17);
	cr_assert_eq(tls_stage(&t), TLS_NONE);
	cr_assert_not(tls_is_followed(&t));
}
