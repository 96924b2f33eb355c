/* SPDX-License-Identifier: MIT */
/* The measured servers, and the ways in which each can be restarted. */
#ifndef CPR_BENCH_SERVERS_H
#define CPR_BENCH_SERVERS_H

#include "load.h"

#include <limits.h>
#include <stdio.h>
#include <sys/types.h>

enum way_kind {
	WAY_CPR,     /* cprctl restart, in exec mode or in handover mode */
	WAY_STOP,    /* SIGTERM, wait for its end, start */
	WAY_SIGNAL,  /* a signal to its first process, which replaces its workers */
	WAY_UPGRADE, /* nginx: USR2, a second master beside the first, then QUIT to the first */
};

struct way {
	const char *name; /* NULL: there is none */
	enum way_kind kind;
	int signal;        /* WAY_SIGNAL */
	bool handover;     /* WAY_CPR: its mode */
	const char *carry; /* WAY_CPR: cpr-exec --carry, or NULL */
};

enum { SERVER_WAYS = 5, SERVER_ARGS = 24 };

/* A server: see service.h. */
struct service {
	const struct bench *bench;
	const struct server *server;
	const struct way *way;
	char room[PATH_MAX]; /* its own directory */
	int port;            /* on 127.0.0.1 */
	pid_t pid;           /* of its first process; 0: it does not run */
	char *argv[SERVER_ARGS + 1];
	size_t argc;
};

struct server {
	const char *name, *program, *about;
	const struct load_protocol *protocol;
	/* requests a second; they leave one processor idle for more than half of the time */
	unsigned rate;
	int (*prepare)(struct service *service); /* writes its files, and the rest of its command line */
	struct way ways[SERVER_WAYS];            /* the first is cpr's, with which the others are compared */
	bool optional;                           /* measured if it is there */
};

extern const struct server servers[];
extern const size_t server_count;

const struct server *server_find(const char *name);

/* Returns its first way of a kind, or NULL. */
const struct way *way_of(const struct server *server, enum way_kind kind);

/* Looks in PATH and in the usual directories of servers. Returns false if it is not installed. */
bool program_find(const char *name, char path[PATH_MAX]);

#endif
