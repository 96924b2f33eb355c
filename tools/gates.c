/* SPDX-License-Identifier: MIT */
/* One generation closes its gate, and another opens its own: exactly one takes new work at any moment. */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include "proc.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum {
	GATE_PATIENCE_MS = 1500, /* a generation answers within 1 s, or calls it off itself */
	DOORS_PATIENCE_MS = 1000,
	APART_MS = 500,
	RING_AGAIN_MS = 5,
	WORKERS_MAX = 256,
};

static int64_t in_time(void)
{
	return io_now() + GATE_PATIENCE_MS * MS;
}

/* Opens a client, and has the process at the other end of its line, which waits for our word. */
static enum outcome meet(struct client *client, pid_t pid, enum protocol_verb verb, struct text *why)
{
	const struct protocol_request request = {.verb = verb};
	enum outcome outcome = client_open(client, pid, true, why);

	return outcome ? outcome : client_meet(client, &request, in_time(), why);
}

/* Workers that are to be rung from here. */
struct workers {
	pid_t pids[WORKERS_MAX];
	size_t count;
	int signo;
};

/*
 * An owner that has dropped its rights may not signal a worker that still has them: sniproxy binds in a process of
 * root, and serves in one without its rights. The supervisor rings such workers itself.
 */
static void find_out_of_reach(struct generation *g, struct workers *found)
{
	struct proc owner, worker;
	struct proc_page owners, page;

	*found = (struct workers){0};
	if (proc_read(g->owner, &owner) || !owner.uid || proc_page(g->owner, &owners))
		return;
	found->signo = owners.signo;
	generation_note_members(g);
	for (size_t i = 0; i < g->member_count && found->count < WORKERS_MAX; i++) {
		pid_t pid = g->members[i].pid;

		if (pid != g->owner && !proc_read(pid, &worker) && worker.uid != owner.uid &&
		    proc_has_signal(worker.caught, owners.signo) && !proc_page(pid, &page) && page.ino == owners.ino)
			found->pids[found->count++] = pid;
	}
}

/* They read the page: the owner's command is there a moment after the request. */
static enum outcome hear_and_ring(struct client *client, const struct workers *workers, struct answer *answer,
				  struct text *why)
{
	int64_t until = in_time();
	enum outcome outcome;

	for (;;) {
		char reason[REASON_SIZE];
		struct text t = TEXT_ON(reason);
		int64_t next = io_now() + RING_AGAIN_MS * MS;

		for (size_t i = 0; i < workers->count; i++) {
			struct proc worker;

			/* its number may be another process's by now, which the signal would end */
			if (!proc_read(workers->pids[i], &worker) && proc_has_signal(worker.caught, workers->signo))
				kill(workers->pids[i], workers->signo);
		}
		outcome = client_hear(client, workers->count && next < until ? next : until, answer, &t);
		if (outcome == OUTCOME_SILENT && io_now() < until)
			continue;
		if (outcome)
			text_add(why, reason);
		return outcome;
	}
}

/* Sends the request, and receives the answer, with the number of clients accepted so far, or -1. */
static enum outcome swing(struct client *client, const struct workers *workers, int64_t *accepted, struct text *why)
{
	cleanup_answer struct answer answer = ANSWER_NONE;
	enum outcome outcome = client_ask_now(client, why);

	*accepted = -1;
	if (!outcome)
		outcome = hear_and_ring(client, workers, &answer, why);
	if (!outcome)
		protocol_get_int(answer.text, "accepted", accepted);
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
		supervisor_say("PID %d could not open its gate again: %s", (int)client->pid, reason);
}

/* It takes nothing more, and has no gate to close. */
static bool has_ended(const struct generation *g)
{
	struct proc proc;

	return proc_read(g->owner, &proc) || proc.state == 'Z';
}

/* ---- processes that a generation has exec'ed, which have gates of their own ---- */

struct apart {
	struct client *all;
	size_t count;
	pid_t silent; /* one that lives, and does not come to its door; 0: there is none */
};

static void apart_end(struct apart *a)
{
	for (size_t i = 0; i < a->count; i++)
		client_close(&a->all[i]);
	free(a->all);
}

/* Those that are there: one that has ended takes nothing. */
static void apart_meet(const struct supervisor *s, struct generation *g, enum protocol_verb verb, struct apart *a)
{
	const struct protocol_request request = {.verb = verb};
	int64_t until;

	stranded_note(s, g);
	a->all = g->apart_count ? calloc(g->apart_count, sizeof(*a->all)) : NULL;
	until = io_now() + APART_MS * MS;
	for (size_t i = 0; a->all && i < g->apart_count; i++) {
		struct client *client = &a->all[a->count];
		char reason[REASON_SIZE];
		struct text why = TEXT_ON(reason);

		*client = CLIENT_NONE;
		if (client_open(client, g->apart[i], false, &why))
			continue;
		switch (client_meet(client, &request, until, &why)) {
		case OUTCOME_DONE:
			a->count++;
			continue;
		case OUTCOME_SILENT:
			a->silent = client->pid;
			break;
		default:
			break;
		}
		client_close(client);
	}
}

/*
 * Sends all requests first, and then receives the answers: together they take as long as the slowest, half a second at
 * most.
 */
static void apart_swing(struct apart *a)
{
	int64_t until = io_now() + APART_MS * MS;

	for (size_t i = 0; i < a->count; i++) {
		char reason[REASON_SIZE];
		struct text why = TEXT_ON(reason);

		client_ask_now(&a->all[i], &why);
	}
	for (size_t i = 0; i < a->count; i++) {
		cleanup_answer struct answer answer = ANSWER_NONE;
		char reason[REASON_SIZE];
		struct text why = TEXT_ON(reason);
		enum outcome outcome = client_hear(&a->all[i], until, &answer, &why);

		if (!outcome && !answer_is(answer.text, "ok")) {
			outcome = OUTCOME_FAILED;
			answer_reason(answer.text, &why);
		}
		if (outcome && outcome != OUTCOME_ABSENT)
			supervisor_say("the gate of PID %d could not be changed: %s", (int)a->all[i].pid, reason);
	}
}

/* ---- the exchange ---- */

/* One side of it. */
struct side {
	struct generation *g; /* NULL: there is none */
	struct client client;
	struct workers workers;
	struct apart apart;
};

/* What takes time to be found: before an owner is met, which waits for two seconds and no longer. */
static void side_begin(const struct supervisor *s, struct side *side, enum protocol_verb verb)
{
	if (!side->g)
		return;
	find_out_of_reach(side->g, &side->workers);
	apart_meet(s, side->g, verb, &side->apart);
}

static enum outcome side_meet(struct side *side, enum protocol_verb verb, struct text *why)
{
	return side->g ? meet(&side->client, side->g->owner, verb, why) : OUTCOME_DONE;
}

static void side_end(struct side *side)
{
	client_close(&side->client);
	apart_end(&side->apart);
}

static void side_open_again(struct side *side)
{
	open_again(&side->client);
	for (size_t i = 0; i < side->apart.count; i++)
		open_again(&side->apart.all[i]);
}

static int exchange(struct supervisor *s, struct side *old, struct side *next, int64_t *gate_us, struct text *why)
{
	int64_t began, accepted = -1;

	side_begin(s, next, PROTOCOL_OPEN);
	side_begin(s, old, PROTOCOL_CLOSE);
	if (next->apart.silent && old->g) { /* its gate stays closed, and it may be the one that accepts */
		text_format(why, "PID %d does not answer, so its gate cannot be opened", (int)next->apart.silent);
		return -ESRCH;
	}
	if (side_meet(next, PROTOCOL_OPEN, why) || (side_meet(old, PROTOCOL_CLOSE, why) && !has_ended(old->g)))
		return -ESRCH;
	began = io_now();
	if (old->g && old->client.line >= 0) {
		if (swing(&old->client, &old->workers, &accepted, why) && !has_ended(old->g)) {
			side_open_again(old); /* its answer may only be late */
			return -ECANCELED;
		}
		apart_swing(&old->apart);
	}
	next->client.request.clients = canary_next_turn(s, accepted);
	next->client.request.drain.nonce = s->recipe.nonce;
	if (next->g && swing(&next->client, &next->workers, &accepted, why)) {
		if (old->g && !has_ended(old->g))
			side_open_again(old);
		return -ECANCELED;
	}
	apart_swing(&next->apart);
	*gate_us = (io_now() - began) / 1000;
	return 0;
}

/*
 * The old generation closes its gate, then the next one, if there is one, opens its own. Returns 0 and the time
 * between; or the reason in `why`, and the old one takes work as before.
 */
static int swap(struct supervisor *s, struct generation *old, struct generation *next, int64_t *gate_us,
		struct text *why)
{
	struct side closing = {.g = old, .client = CLIENT_NONE}, opening = {.g = next, .client = CLIENT_NONE};
	int r = exchange(s, &closing, &opening, gate_us, why);

	side_end(&closing);
	side_end(&opening);
	return r;
}

/* An exchange that has begun is completed, even if the supervisor gets a signal to end: it takes a second or two. */
int gates_swap(struct supervisor *s, struct generation *old, struct generation *next, int64_t *gate_us,
	       struct text *why)
{
	int r;

	s->steady++;
	r = swap(s, old, next, gate_us, why);
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
