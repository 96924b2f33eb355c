/* SPDX-License-Identifier: MIT */
/* Clients that send requests at a fixed rate, and record the outcome of each. */
#ifndef CPR_BENCH_LOAD_H
#define CPR_BENCH_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a server's answer to LOAD_PATH holds. */
#define LOAD_BODY "the answer that every server under load gives"

enum load_verdict {
	LOAD_PENDING,
	LOAD_GOOD,
	LOAD_LAST /* good, and the server will close the connection */,
	LOAD_WRONG
};

struct load_protocol {
	const char *question;
	enum load_verdict (*judge)(const char *answer, size_t n); /* NUL-terminated */
};

extern const struct load_protocol load_http, load_redis;

enum load_outcome {
	LOAD_ANSWERED,
	LOAD_REFUSED, /* there was no listener */
	LOAD_CUT,     /* the connection ended before the whole answer was there */
	LOAD_STALLED, /* no answer and no end within LOAD_PATIENCE_NS */
	LOAD_GARBLED, /* a wrong answer */
	LOAD_CLOSED,  /* no request: the server closed a keep-alive connection between two requests */
	LOAD_OUTCOMES,
};

#define LOAD_PATIENCE_NS INT64_C(10000000000)

struct load_record {
	int64_t due;               /* when the request had to be sent, even if the client was busy */
	int64_t latency;           /* ns from then to the end of its answer, through all its attempts */
	enum load_outcome outcome; /* of its first attempt: one that fails is tried again until it is answered */
	bool kept;                 /* on a keep-alive connection */
};

struct load_plan {
	const struct load_protocol *protocol;
	int port;           /* on 127.0.0.1 */
	int cpu;            /* for the clients alone; -1: any */
	unsigned kept;      /* keep-alive clients */
	unsigned kept_rate; /* requests a second by all of them */
	unsigned new_rate;  /* requests a second on a connection of their own */
};

struct load;

/* Starts at once, in a thread of its own. Returns 0, or a negative errno. */
int load_start(const struct load_plan *plan, struct load **load);

/*
 * Lets requests under way end. Returns 0 and the records, in the order in which they ended, which the load owns; or a
 * negative errno.
 */
int load_stop(struct load *load, const struct load_record **records, size_t *count);
void load_free(struct load **load);

/*
 * Sends one request on a connection of its own, as a client that waits for the server does. Returns whether the whole
 * answer came.
 */
bool load_try(const struct load_protocol *protocol, int port);

#endif
