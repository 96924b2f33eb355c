/* SPDX-License-Identifier: MIT */
/* How far a TLS connection is, by the types and lengths of its records, seen from the server. */
#ifndef CPR_MODEL_TLS_H
#define CPR_MODEL_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * All of it may be called by a signal handler: nothing is allocated, locked or printed. The order of calls is the
 * caller's care, as for model/http.h. Turns of reading and writing say nothing on a TLS connection: the server's flight
 * in the handshake is no answer, and neither are the tickets that it sends unasked.
 */

/* One direction: the record under way. */
struct tls_way {
	uint16_t left; /* bytes to come of the record */
	uint8_t have;  /* bytes of its header that came; 0: between two records */
	uint8_t type;
};

/* Zero-initialised: a connection on which nothing was said yet. */
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
	uint8_t asked : 1;         /* the client's application data, not answered yet */
	uint8_t answered : 1;
	uint8_t tickets : 1;       /* what the server sends may be tickets still */
};

enum tls_stage {
	TLS_NONE,      /* no TLS, nothing said yet, or lost track of (kernel TLS: the program writes without records) */
	TLS_HANDSHAKE, /* under way: also a renegotiation */
	TLS_OPEN,      /* the handshake is over, and the client has asked for nothing yet */
	TLS_ASKED,     /* application data of the client is not answered, or a record came in part */
	TLS_ANSWERED,
};

enum tls_stage tls_stage(const struct tls *t);

/* The server read these bytes from the client, or wrote these to it. NULL: they went by unseen. */
void tls_read(struct tls *t, const void *bytes, size_t n);
void tls_wrote(struct tls *t, const void *bytes, size_t n);

/* Is there anything that bytes can still change? */
static inline bool tls_is_followed(const struct tls *t)
{
	return t->kind < 2;
}

#endif
