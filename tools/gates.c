/* SPDX-License-Identifier: MIT */
/* One generation closes its gate, and another opens its own: exactly one takes new work at any moment. */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include "proc.h"

#include <errno.h>
#include <string.h>

enum {
	GATE_PATIENCE_MS = 1500, /* a generation answers within 1 s, or calls it off itself */
	DOORS_PATIENCE_MS = 1000,
};

static int64_t in_time(void)
{
	return io_now() + GATE_PATIENCE_MS * MS;
}

/* Opens a client, and has the process at the other end of its line, which waits for our word. */
static enum outcome meet(struct client *client, const struct generation *g, enum protocol_verb verb, struct text *why)
{
	const struct protocol_request request = {.verb = verb};
	enum outcome outcome = client_open(client, g->owner, true, why);

	return outcome ? outcome : client_meet(client, &request, in_time(), why);
}

/* Says it, and hears that it is done. */
static enum outcome swing(struct client *client, struct text *why)
{
	cleanup_answer struct answer answer = ANSWER_NONE;
	enum outcome outcome = client_ask_now(client, why);

	if (!outcome)
		outcome = client_hear(client, in_time(), &answer, why);
	if (outcome || answer_is(answer.text, "ok"))
		return outcome;
	answer_reason(answer.text, why);
	return OUTCOME_FAILED;
}

static void open_again(struct client *client)
{
	cleanup_answer struct answer answer = ANSWER_NONE;
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);

	if (client_call_again(client, PROTOCOL_OPEN, in_time(), &answer, &why))
		supervisor_say("PID %d does not open its gate again: %s", (int)client->pid, reason);
}

/* It takes nothing more, and has no gate to close. */
static bool has_ended(const struct generation *g)
{
	struct proc proc;

	return proc_read(g->owner, &proc) || proc.state == 'Z';
}

/*
 * The old one closes its gate, then the next one, if there is one, opens its own: 0 and the time between, or `why`;
 * then the old one takes work as before.
 */
static int swap(struct generation *old, struct generation *next, int64_t *gate_us, struct text *why)
{
	cleanup_client struct client closing = CLIENT_NONE, opening = CLIENT_NONE;
	int64_t began;

	if ((next && meet(&opening, next, PROTOCOL_OPEN, why)) ||
	    (old && meet(&closing, old, PROTOCOL_CLOSE, why) && !has_ended(old)))
		return -ESRCH;
	began = io_now();
	if (old && closing.line >= 0 && swing(&closing, why) && !has_ended(old)) {
		open_again(&closing); /* its answer may only be late */
		return -ECANCELED;
	}
	if (next && swing(&opening, why)) {
		if (old && !has_ended(old))
			open_again(&closing);
		return -ECANCELED;
	}
	*gate_us = (io_now() - began) / 1000;
	return 0;
}

/* What has begun comes to its end, whatever the supervisor is told meanwhile: a second or two. */
int gates_swap(struct supervisor *s, struct generation *old, struct generation *next, int64_t *gate_us,
	       struct text *why)
{
	int r;

	s->steady++;
	r = swap(old, next, gate_us, why);
	s->steady--;
	return r;
}

/* The first door of a stream listener. */
void gates_ask_door(struct supervisor *s)
{
	struct handover *h = &s->handover;
	cleanup_client struct client client = CLIENT_NONE;
	cleanup_answer struct answer answer = ANSWER_NONE;
	char reason[REASON_SIZE], line[PROTOCOL_ANSWER_MAX];
	struct text why = TEXT_ON(reason);
	char *blank;

	*h->door = '\0';
	if (client_call(&client, h->next->owner, PROTOCOL_DOORS, io_now() + DOORS_PATIENCE_MS * MS, &answer, &why) ||
	    protocol_get(answer.text, "door", line, sizeof(line)))
		return;
	blank = strchrnul(line, ' ');
	if (*blank && strlen(blank + 1) < sizeof(h->listener))
		strcpy(h->listener, blank + 1);
	*blank = '\0';
	if (strlen(line) < sizeof(h->door))
		strcpy(h->door, line);
}
