/* SPDX-License-Identifier: MIT */
/* How far a TLS connection is, by the types and lengths of its records, as the server sees them. */
#ifndef CPR_MODEL_TLS_H
#define CPR_MODEL_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A signal handler may call all of these: nothing is allocated, locked or printed. The caller keeps the order of calls,
 * as for model/http.h. On a TLS connection, a write after a read is not an answer: the server also writes its part of
 * the handshake, and tickets unasked.
 */

/* One direction: the record under way. */
struct tls_way {
	uint16_t left; /* bytes to come of the record */
	uint8_t have;  /* bytes of its header that came; 0: between two records */
	uint8_t type;
};

/* Zero-initialised: a connection without data yet. */
struct tls {
	struct tls_way client, server;
	/* the length of the first record that a 1.3 server sent after the handshake; 0: none yet */
	uint16_t ticket;
	uint8_t kind : 2;          /* unknown, TLS, or none */
	uint8_t is_13 : 1;         /* TLS 1.3: the handshake goes on as application data */
	uint8_t client_cipher : 1; /* ChangeCipherSpec was sent */
	uint8_t server_cipher : 1;
	uint8_t client_finished : 1;
	uint8_t server_finished : 1;
	uint8_t asked : 1;         /* application data of the client without an answer */
	uint8_t answered : 1;
	uint8_t tickets : 1;       /* what the server sends may still be tickets */
};

enum tls_stage {
	TLS_NONE,      /* no TLS, no data yet, or tracking ended (kernel TLS: the program writes without records) */
	TLS_HANDSHAKE, /* under way: also a renegotiation */
	TLS_OPEN,      /* the handshake is over, and no request came yet */
	TLS_ASKED,     /* application data of the client has no answer, or a record arrived in part */
	TLS_ANSWERED,
};

enum tls_stage tls_stage(const struct tls *t);

/* The server read these n bytes from the client, or wrote them to it. NULL: they passed unseen. */
void tls_read(struct tls *t, const void *bytes, size_t n);
void tls_wrote(struct tls *t, const void *bytes, size_t n);

/* Can further bytes still change the state? */
static inline bool tls_is_followed(const struct tls *t)
{
	return t->kind < 2;
}

#endif
