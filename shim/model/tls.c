/* SPDX-License-Identifier: MIT */
/* How far a TLS connection is. */
#include "model/tls.h"

enum { UNKNOWN, TLS, LOST }; /* struct tls.kind */
enum { CHANGE_CIPHER_SPEC = 20, ALERT, HANDSHAKE, APPLICATION_DATA, HEARTBEAT };
enum { HEADER = 5, MAJOR = 3, LENGTH_MAX = (1 << 14) + 2048, FINISHED_MAX = 100 };

static bool tls_is_open(const struct tls *t)
{
	return t->client_finished && (t->is_13 || t->server_finished);
}

/* A renegotiation begins: only up to 1.2. */
static void begin_anew(struct tls *t)
{
	t->client_cipher = t->server_cipher = t->client_finished = t->server_finished = 0;
}

/*
 * Up to 1.2 the record after ChangeCipherSpec is the encrypted Finished, of 32 to 96 bytes. (In 1.3, after a
 * HelloRetryRequest, it may be the second hello, of at least 122 bytes.) In 1.3 the client's Finished looks like
 * application data: it is the first such record after the server's flight. Earlier ones are early data, which gets no
 * answer before the handshake is over. A client with a certificate sends more such records, and these count as a
 * request. That errs on the safe side.
 */
static void client_record(struct tls *t, uint8_t type, uint16_t length)
{
	switch (type) {
	case CHANGE_CIPHER_SPEC:
		t->client_cipher = 1;
		break;
	case HANDSHAKE:
		if (tls_is_open(t))
			begin_anew(t);
		else if (t->client_cipher && length <= FINISHED_MAX)
			t->client_finished = 1;
		break;
	case APPLICATION_DATA:
		if (t->is_13 && !t->client_finished) {
			t->client_finished = t->tickets = 1;
		} else if (t->client_finished) { /* up to 1.2 the server's Finished may come later (false start) */
			t->asked = 1;
			t->answered = 0;
		}
	}
}

/*
 * In 1.3 a ticket looks like an answer. Tickets come before all else behind the handshake, and are of one length. A
 * server that sends none has its first answer taken for one.
 */
static bool is_ticket(struct tls *t, uint16_t length)
{
	if (!t->tickets)
		return false;
	if (!t->ticket)
		t->ticket = length;
	else
		t->tickets = t->ticket == length;
	return t->tickets;
}

static void server_record(struct tls *t, uint8_t type, uint16_t length)
{
	switch (type) {
	case CHANGE_CIPHER_SPEC:
		t->server_cipher = 1;
		break;
	case HANDSHAKE:
		if (t->server_cipher && length <= FINISHED_MAX)
			t->server_finished = 1;
		break;
	case APPLICATION_DATA:
		if (!tls_is_open(t)) { /* up to 1.2 no server sends any in the handshake */
			t->is_13 = 1;
		} else if (t->asked && !is_ticket(t, length)) {
			t->asked = 0;
			t->answered = 1;
		} else if (!t->asked) {
			is_ticket(t, length);
		}
	}
}

/* One byte of a header. False: it is none of TLS. */
static bool take_header(struct tls_way *way, uint8_t byte)
{
	switch (way->have++) {
	case 0:
		way->type = byte;
		return byte >= CHANGE_CIPHER_SPEC && byte <= HEARTBEAT;
	case 1:
		return byte == MAJOR;
	case 3:
		way->left = (uint16_t)(byte << 8);
		return true;
	case 4:
		way->left |= byte;
		return way->left <= LENGTH_MAX;
	default:
		return true;
	}
}

static void tls_take(struct tls *t, struct tls_way *way, const uint8_t *bytes, size_t n)
{
	while (n > 0) {
		size_t took = 1;

		if (way->have < HEADER) {
			if (!take_header(way, *bytes)) {
				t->kind = LOST;
				return;
			}
			if (way->have == HEADER && way == &t->client)
				client_record(t, way->type, way->left);
			else if (way->have == HEADER)
				server_record(t, way->type, way->left);
		} else {
			took = n < way->left ? n : way->left;
			way->left -= (uint16_t)took;
		}
		if (way->have == HEADER && !way->left)
			way->have = 0;
		bytes += took;
		n -= took;
	}
}

void tls_read(struct tls *t, const void *bytes, size_t n)
{
	if (!n || t->kind == LOST)
		return;
	if (t->kind == UNKNOWN)
		t->kind = bytes && *(const uint8_t *)bytes == HANDSHAKE ? TLS : LOST;
	if (!bytes)
		t->kind = LOST;
	if (t->kind == TLS)
		tls_take(t, &t->client, bytes, n);
}

void tls_wrote(struct tls *t, const void *bytes, size_t n)
{
	if (!n || t->kind == LOST)
		return;
	if (t->kind == UNKNOWN || !bytes)
		t->kind = LOST;
	else
		tls_take(t, &t->server, bytes, n);
}

enum tls_stage tls_stage(const struct tls *t)
{
	if (t->kind != TLS)
		return TLS_NONE;
	if (!tls_is_open(t))
		return TLS_HANDSHAKE;
	if (t->asked || t->client.have || t->server.have)
		return TLS_ASKED;
	return t->answered ? TLS_ANSWERED : TLS_OPEN;
}
