/* SPDX-License-Identifier: MIT */
/* What a restart would do, asked of the processes that would do it. */
#define _GNU_SOURCE
#include "foresight.h"

#include "base/attr.h"
#include "base/io.h"
#include "connections.h"
#include "json.h"
#include "model/state.h"
#include "utf8.h"

#include <stdio.h>
#include <string.h>

enum { TIMEOUT_MS = 5000 };

struct foresight {
	pid_t pid, server;
	bool supervised;
	bool beside;         /* the old generation goes on beside the next one */
	bool counted;        /* the connections */
	int64_t fates[FATES];
	int64_t generation;  /* the next one's number */
	int64_t drain_s;
	int64_t ends;        /* an old generation that a restart would end; 0: none */
	bool tested;
	struct state state;  /* what the server has by name */
};

/* ---- asking ---- */

static enum outcome ask(struct client *client, const char *path, uint32_t flags, struct answer *answer,
			struct text *why)
{
	struct protocol_request request = {.verb = PROTOCOL_FORESEE, .flags = flags};
	enum outcome outcome;

	strcpy(request.path, path);
	outcome = client_ring(client, &request, why);
	if (!outcome)
		outcome = client_hear(client, io_now() + TIMEOUT_MS * INT64_C(1000000), answer, why);
	if (outcome || answer_is(answer->text, "ok"))
		return outcome;
	text_add(why, "would be refused: ");
	answer_reason(answer->text, why);
	return OUTCOME_FAILED;
}

/* A server that does not answer is replaced all the same. */
static void ask_server(struct foresight *f)
{
	cleanup_client struct client client = CLIENT_NONE;
	cleanup_answer struct answer answer = ANSWER_NONE;
	char reason[PROTOCOL_ANSWER_MAX];
	struct text why = TEXT_ON(reason);

	f->counted = f->server > 0 && !client_open(&client, f->server, true, &why) &&
		     !ask(&client, "", PROTOCOL_BY_SUPERVISOR, &answer, &why) &&
		     connections_fates(f->server, answer.text, f->fates);
}

/* Of the server; of one that does not answer, what its supervisor holds. */
static enum outcome ask_list(struct foresight *f, struct text *why)
{
	cleanup_answer struct answer answer = ANSWER_NONE;
	char reason[PROTOCOL_ANSWER_MAX];
	struct text inner = TEXT_ON(reason);
	enum outcome outcome = OUTCOME_FAILED;

	if (!f->supervised || f->counted)
		outcome = client_ask(f->server, PROTOCOL_LIST, TIMEOUT_MS, true, &answer, &inner);
	if (outcome && f->supervised)
		outcome = client_ask(f->pid, PROTOCOL_LIST, TIMEOUT_MS, true, &answer, why);
	if (outcome)
		return outcome;
	if (answer.fd < 0 || state_read(answer.fd, false, &f->state, why)) {
		text_format(why, "PID %d sent a list that cannot be read", (int)f->pid);
		return OUTCOME_FAILED;
	}
	return OUTCOME_DONE;
}

/* ---- showing ---- */

static bool is_kept(const struct entry *e)
{
	return e->flags & ENTRY_KEPT && !(e->flags & ENTRY_ORPHAN);
}

static void print_tags(const struct foresight *f, bool kept)
{
	for (const struct entry *e = table_first(f->state.table); e; e = table_after(e)) {
		char name[4 * TAG_NAME_MAX + 1];
		struct text t = TEXT_ON(name);

		if (is_kept(e) != kept)
			continue;
		utf8_add_printable(&t, e->name);
		printf("%-12s %s", kept ? "kept:" : "not kept:", name);
		printf(e->id ? ", %d\n" : "\n", e->id);
	}
}

static void print_number(const char *label, int64_t n, const char *one, const char *many)
{
	if (n)
		printf("%-12s %lld %s\n", label, (long long)n, n == 1 ? one : many);
}

/* A process that restarts itself ends what cannot be carried, and has no request under way, as its server would. */
static int64_t waited_for(const struct foresight *f)
{
	return f->fates[FATE_BUSY] + (f->supervised ? f->fates[FATE_CLOSED] : 0);
}

static void print_connections(const struct foresight *f)
{
	char rest[128];

	if (!f->counted) {
		printf("%-12s not known: the server does not say; what it has ends with it\n", "connections:");
		return;
	}
	print_number("carried:", f->fates[FATE_CARRIED], "connection", "connections");
	if (f->beside) {
		snprintf(rest, sizeof(rest), "in the old generation, for %lld s at the most", (long long)f->drain_s);
		print_number("go on:", waited_for(f), rest, rest);
		return;
	}
	snprintf(rest, sizeof(rest), "that cannot be carried now, for %lld s, then cut", (long long)f->drain_s);
	print_number("waited for:", waited_for(f), rest, rest);
	print_number("ended:", f->supervised ? 0 : f->fates[FATE_CLOSED], "connection that cannot be carried",
		     "connections that cannot be carried");
}

static void print_human(const struct foresight *f)
{
	printf("%d would be restarted: generation %lld, %s\n", (int)f->pid, (long long)f->generation,
	       f->beside ? "beside the old one" : f->supervised ? "after the old one" : "in the same process");
	print_tags(f, true);
	print_tags(f, false);
	print_connections(f);
	if (f->ends)
		printf("%-12s generation %lld, which drains (--generations)\n", "told to end:", (long long)f->ends);
	if (f->tested)
		printf("%-12s succeeds\n", "test:");
}

static void put_tags(struct json *json, const struct foresight *f, bool kept)
{
	json_array(json, kept ? "kept" : "not_kept");
	for (const struct entry *e = table_first(f->state.table); e; e = table_after(e))
		if (is_kept(e) == kept) {
			json_object(json, NULL);
			json_string(json, "tag", e->name);
			json_int(json, "id", e->id);
			json_end(json, '}');
		}
	json_end(json, ']');
}

static void print_json(const struct foresight *f)
{
	struct json json = {.out = stdout};

	json_object(&json, NULL);
	json_int(&json, "pid", f->pid);
	json_string(&json, "mode", f->supervised ? "handover" : "exec");
	json_int(&json, "generation", f->generation);
	put_tags(&json, f, true);
	put_tags(&json, f, false);
	if (f->counted) {
		json_int(&json, "carried", f->fates[FATE_CARRIED]);
		json_int(&json, f->beside ? "go_on" : "waited_for", waited_for(f));
		if (!f->supervised)
			json_int(&json, "ended", f->fates[FATE_CLOSED]);
	}
	json_int(&json, "drain_s", f->drain_s);
	if (f->ends)
		json_int(&json, "told_to_end", f->ends);
	json_bool(&json, "tested", f->tested);
	json_end(&json, '}');
}

enum outcome foresight_show(struct client *client, const char *status, const char *path, bool as_json,
			    struct text *why)
{
	cleanup_answer struct answer answer = ANSWER_NONE;
	struct foresight f = {.pid = client->pid, .server = client->pid, .supervised = client->supervisor};
	char unused[2];
	int64_t number;
	enum outcome outcome = ask(client, path, 0, &answer, why);

	if (outcome)
		return outcome;
	f.tested = !protocol_get(status, "test", unused, sizeof(unused));
	protocol_get_int(answer.text, "generation", &f.generation);
	protocol_get_int(answer.text, "drain_s", &f.drain_s);
	protocol_get_int(answer.text, "ends", &f.ends);
	f.beside = f.supervised && (protocol_get_int(answer.text, "beside", &number) || number);
	if (f.supervised) {
		f.server = protocol_get_int(status, "server", &number) ? 0 : (pid_t)number;
		ask_server(&f);
	} else {
		f.counted = connections_fates(f.pid, answer.text, f.fates);
	}
	outcome = ask_list(&f, why);
	if (outcome)
		return outcome;
	if (as_json)
		print_json(&f);
	else
		print_human(&f);
	state_free(&f.state);
	return OUTCOME_DONE;
}
