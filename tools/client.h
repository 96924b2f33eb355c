/* SPDX-License-Identifier: MIT */
/* Rings the doorbell of a process under cpr, and receives its answers. */
#ifndef CPR_CLIENT_H
#define CPR_CLIENT_H

#include "model/protocol.h"

#include <stdbool.h>
#include <sys/types.h>

/* The outcome: also cprctl's exit status. */
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
	int line;      /* the connection of the process that answers; -1: none */
	pid_t speaker; /* that process: the one that was rung, or the one that replaced it */
	bool asked;    /* the request was sent */
	uint64_t nonce;
	int64_t rung_at; /* io_now() */
	bool holds;      /* … and is not to be sent yet: client_meet */
	bool supervisor; /* it is a server's supervisor, and not the server */
	int64_t died;    /* when the process was seen dead; 0: it lives */
	struct protocol_request request;
};

/* An answer: lines of key=value (protocol_get), and a descriptor that came with them, or -1. */
struct answer {
	char text[PROTOCOL_ANSWER_MAX + 1];
	int fd;
};

#define ANSWER_NONE ((struct answer){.fd = -1})
#define CLIENT_NONE ((struct client){.passed = -1, .pidfd = -1, .listener = -1, .line = -1})

/*
 * Opens a process that can be rung. `patient`: waits up to a second for one between exec and its first instruction.
 * Returns OUTCOME_DONE; or another with the reason in `why`, and nothing has to be closed.
 */
enum outcome client_open(struct client *client, pid_t pid, bool patient, struct text *why);
void client_close(struct client *client);

/*
 * Rings: the request goes to the process when it connects. May be called again for another request. Returns
 * OUTCOME_DONE or OUTCOME_FAILED, or OUTCOME_ABSENT if it died.
 */
enum outcome client_ring(struct client *client, const struct protocol_request *request, struct text *why);

/*
 * Rings, and waits until the process connects, without a request: client_ask_now sends that. Two processes that both
 * have connected can be asked in succession without the delay of a signal. Returns OUTCOME_DONE, or another and `why`.
 */
enum outcome client_meet(struct client *client, const struct protocol_request *request, int64_t until,
			 struct text *why);
enum outcome client_ask_now(struct client *client, struct text *why);

/*
 * Receives the next message, until `until` (io_now). Returns OUTCOME_DONE; OUTCOME_SILENT; OUTCOME_ABSENT: the process
 * died, and none replaced it. Only OUTCOME_DONE changes `answer`, and closes a descriptor that it held.
 */
enum outcome client_hear(struct client *client, int64_t until, struct answer *answer, struct text *why);

/* Asks one process, which must answer "ok". The connection stays open in *client. */
enum outcome client_call(struct client *client, pid_t pid, enum protocol_verb verb, int64_t until,
			 struct answer *answer, struct text *why);

/* The same with a whole request. */
enum outcome client_call_with(struct client *client, pid_t pid, const struct protocol_request *request, int64_t until,
			      struct answer *answer, struct text *why);

/* The same for a client that is open already. */
enum outcome client_call_again(struct client *client, enum protocol_verb verb, int64_t until, struct answer *answer,
			       struct text *why);

/* Asks one simple question: client_open, client_ring, client_hear. The answer must be "ok" or "worker". */
enum outcome client_ask(pid_t pid, enum protocol_verb verb, int timeout_ms, bool patient, struct answer *answer,
			struct text *why);

/* Appends the value of a key for display: bytes that do not print as \xHH. Nothing if the key is missing. */
void answer_show(const char *answer, const char *key, struct text *t);

/* Appends the reason of a refusal, or the word of its result. */
void answer_reason(const char *answer, struct text *t);

/* Is this the "result=" of the answer? */
bool answer_is(const char *answer, const char *result);

void answer_close(struct answer *answer);

#define cleanup_client __attribute__((cleanup(client_close)))
#define cleanup_answer __attribute__((cleanup(answer_close)))

#endif
