/* SPDX-License-Identifier: MIT */
/* Rings the doorbell of a process under cpr, and hears what it answers. */
#ifndef CPR_CLIENT_H
#define CPR_CLIENT_H

#include "model/protocol.h"

#include <stdbool.h>
#include <sys/types.h>

/* How it went: these are cprctl's exit statuses. */
enum outcome {
	OUTCOME_DONE = 0,
	OUTCOME_FAILED = 1, /* … and the old generation serves on */
	OUTCOME_USAGE = 2,
	OUTCOME_ABSENT = 3, /* no such process, or not under cpr */
	OUTCOME_SILENT = 4, /* no answer in time */
	OUTCOME_DOWN = 5,   /* failed, and nothing serves */
};

struct client {
	pid_t pid;
	uid_t uid; /* the process's effective user */
	gid_t gid;
	int signo; /* the doorbell's */
	int passed; /* goes with the request, and stays the caller's; -1: none */
	int pidfd;
	int listener;
	int line;      /* the connection of the process that talks to us; -1: none */
	pid_t speaker; /* which that is: the process, or the one that took its place */
	bool asked;    /* the request went out */
	uint64_t nonce;
	int64_t rung_at; /* io_now() */
	bool holds;      /* … and is not to yet: client_meet */
	bool supervisor; /* it is the supervisor of a server, and not the server */
	int64_t died;    /* when the process was seen to be dead, 0: it lives */
	struct protocol_request request;
};

/* What was said: lines of key=value (protocol_get), and a descriptor that came with them, or -1. */
struct answer {
	char text[PROTOCOL_ANSWER_MAX + 1];
	int fd;
};

#define ANSWER_NONE ((struct answer){.fd = -1})
#define CLIENT_NONE ((struct client){.passed = -1, .pidfd = -1, .listener = -1, .line = -1})

/*
 * A process that can be rung. `patient`: waits up to a second for one that is just between exec and its first
 * instruction. OUTCOME_DONE, or another with the reason in `why`; then there is nothing to close.
 */
enum outcome client_open(struct client *client, pid_t pid, bool patient, struct text *why);
void client_close(struct client *client);

/* Rings: the request goes to the process when it connects. May be called again for a next request. OUTCOME_DONE or
   OUTCOME_FAILED (or OUTCOME_ABSENT: it died). */
enum outcome client_ring(struct client *client, const struct protocol_request *request, struct text *why);

/*
 * Rings, and waits for the process to connect, without a word to it yet: client_ask_now sends the request. Two that are
 * met first can be asked one after the other without the time that a signal takes. OUTCOME_DONE, or another and `why`.
 */
enum outcome client_meet(struct client *client, const struct protocol_request *request, int64_t until,
			 struct text *why);
enum outcome client_ask_now(struct client *client, struct text *why);

/*
 * The next message, heard before `until` (io_now). OUTCOME_DONE; OUTCOME_SILENT; OUTCOME_ABSENT: the process died, and
 * none took its place. `answer` is changed only by OUTCOME_DONE: a descriptor that it held before is closed.
 */
enum outcome client_hear(struct client *client, int64_t until, struct answer *answer, struct text *why);

/* A question to one process, which must answer "ok"; the line stays open in *client for what follows. */
enum outcome client_call(struct client *client, pid_t pid, enum protocol_verb verb, int64_t until,
			 struct answer *answer, struct text *why);

/* The same with a request of more than its verb. */
enum outcome client_call_with(struct client *client, pid_t pid, const struct protocol_request *request, int64_t until,
			      struct answer *answer, struct text *why);

/* The same for a client that is open already. */
enum outcome client_call_again(struct client *client, enum protocol_verb verb, int64_t until, struct answer *answer,
			       struct text *why);

/* One simple question from beginning to end: client_open, client_ring, client_hear, and the answer must be "ok" or
 * "worker". */
enum outcome client_ask(pid_t pid, enum protocol_verb verb, int timeout_ms, bool patient, struct answer *answer,
			struct text *why);

/* Appends the value of a key as it may be shown: what does not print as \xHH. Nothing if the key is missing. */
void answer_show(const char *answer, const char *key, struct text *t);

/* Appends why the process would not: its reason, or its result's word. */
void answer_reason(const char *answer, struct text *t);

/* Is this the "result=" of the answer? */
bool answer_is(const char *answer, const char *result);

void answer_close(struct answer *answer);

#define cleanup_client __attribute__((cleanup(client_close)))
#define cleanup_answer __attribute__((cleanup(answer_close)))

#endif
