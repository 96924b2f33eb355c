/* SPDX-License-Identifier: MIT */
/* cprctl list: the tags of a process. */
#define _GNU_SOURCE
#include "cmd.h"

#include "base/attr.h"
#include "connections.h"
#include "descriptors.h"
#include "grid.h"
#include "json.h"
#include "model/state.h"
#include "proc.h"

#include <getopt.h>
#include <stdlib.h>
#include <unistd.h>

enum { TIMEOUT_MS = 5000 };

static const char usage_text[] =
	"Usage: cprctl list PID [--all] [--json]\n"
	"Shows the descriptors that a process under cpr has by name.\n"
	"  --all   every open descriptor, whether the next generation gets it, and why: the rule's number\n"
	"  --json  says it in JSON\n"
	"  STATE  kept: survives a restart; not kept; orphan: came over in the last restart, and the program has not "
	"asked for it yet;\n"
	"         inherited: came through the program's own exec\n"
	"  QUEUE  connections that wait for accept, and how many may (streams); bytes that wait (datagrams)\n";

static const char *state_of(const struct entry *e)
{
	if (e->flags & ENTRY_ORPHAN)
		return "orphan";
	if (e->flags & ENTRY_INHERITED)
		return "inherited";
	return e->flags & ENTRY_KEPT ? "kept" : "not kept";
}

static void add_queue(struct grid *grid, const struct entry *e)
{
	bool listens = e->kind == ENTRY_STREAM && e->flags & ENTRY_LISTENING;

	if (listens && e->queue >= 0 && e->backlog >= 0)
		grid_add(grid, "%d/%d", e->queue, e->backlog);
	else if (listens && e->queue >= 0)
		grid_add(grid, "%d", e->queue);
	else if (e->kind == ENTRY_DATAGRAM && e->queue >= 0)
		grid_add(grid, "%d B", e->queue);
	else
		grid_add(grid, "-");
}

static void print_human(const struct state *state)
{
	static const struct grid_column columns[] = {
		{"TAG", false}, {"ID", true}, {"FD", true}, {"KIND", false}, {"STATE", false}, {"QUEUE", false},
	};
	cleanup_grid struct grid *grid = grid_new(columns, countof(columns));

	for (const struct entry *e = table_first(state->table); e; e = table_after(e)) {
		grid_add(grid, "%s", e->name);
		grid_add(grid, "%d", e->id);
		grid_add(grid, "%d", e->fd);
		grid_add(grid, "%s", cmd_kind(e->kind));
		grid_add(grid, "%s", state_of(e));
		add_queue(grid, e);
	}
	grid_print(grid, stdout);
}

/* "12 connections: 3 fresh, 8 between requests, 1 busy"; nothing if there are none. */
static void print_connections(const int64_t *n)
{
	if (n[CONNECTIONS_ALL])
		printf("\n%lld connection%s: %lld fresh, %lld between requests, %lld busy\n",
		       (long long)n[CONNECTIONS_ALL], n[CONNECTIONS_ALL] == 1 ? "" : "s",
		       (long long)n[CONNECTIONS_FRESH], (long long)n[CONNECTIONS_IDLE], (long long)n[CONNECTIONS_BUSY]);
}

static void print_json(pid_t pid, const struct state *state, const int64_t *connections)
{
	struct json json = {.out = stdout};

	json_object(&json, NULL);
	json_int(&json, "pid", pid);
	json_int(&json, "generation", state->generation);
	json_array(&json, "tags");
	for (const struct entry *e = table_first(state->table); e; e = table_after(e)) {
		json_object(&json, NULL);
		json_string(&json, "tag", e->name);
		json_int(&json, "id", e->id);
		json_int(&json, "fd", e->fd);
		json_string(&json, "kind", cmd_kind(e->kind));
		json_string(&json, "state", state_of(e));
		json_bool(&json, "listening", e->flags & ENTRY_LISTENING);
		if (e->queue >= 0)
			json_int(&json, "queue", e->queue);
		if (e->backlog >= 0)
			json_int(&json, "backlog", e->backlog);
		json_end(&json, '}');
	}
	json_end(&json, ']');
	for (size_t i = 0; i < CONNECTIONS_KINDS; i++)
		json_int(&json, connections_key[i], connections[i]);
	json_end(&json, '}');
}

/* ---- every one ---- */

static void print_all_human(const struct descriptors *all)
{
	static const struct grid_column columns[] = {
		{"FD", true}, {"KEPT", false}, {"CLOEXEC", false}, {"WHAT", false}, {"WHY", false},
	};
	cleanup_grid struct grid *grid = grid_new(columns, countof(columns));

	for (size_t i = 0; i < all->count; i++) {
		const struct descriptor *d = &all->of[i];

		grid_add(grid, "%d", d->fd);
		grid_add(grid, "%s", d->kept ? "yes" : "no");
		grid_add(grid, "%s", d->cloexec ? "yes" : "no");
		grid_add(grid, "%s", d->entry ? d->entry->name : d->what);
		grid_add(grid, "%s", d->why);
	}
	grid_print(grid, stdout);
}

static void print_all_json(pid_t pid, const struct descriptors *all)
{
	struct json json = {.out = stdout};

	json_object(&json, NULL);
	json_int(&json, "pid", pid);
	json_array(&json, "descriptors");
	for (size_t i = 0; i < all->count; i++) {
		const struct descriptor *d = &all->of[i];

		json_object(&json, NULL);
		json_int(&json, "fd", d->fd);
		json_bool(&json, "kept", d->kept);
		json_bool(&json, "cloexec", d->cloexec);
		json_string(&json, "what", d->what);
		if (d->entry)
			json_string(&json, "tag", d->entry->name);
		if (d->entry)
			json_int(&json, "id", d->entry->id);
		json_string(&json, "why", d->why);
		json_end(&json, '}');
	}
	json_end(&json, ']');
	json_end(&json, '}');
}

static enum outcome print_all(pid_t pid, const struct state *state, bool json)
{
	char reason[PROTOCOL_ANSWER_MAX];
	struct text why = TEXT_ON(reason);
	struct descriptors all;

	if (!descriptors_of(pid, state, &all, &why))
		return cmd_fail(OUTCOME_FAILED, &why);
	if (json)
		print_all_json(pid, &all);
	else
		print_all_human(&all);
	free(all.of);
	return OUTCOME_DONE;
}

/* ---- the command ---- */

/* Of a supervisor, the generation that serves: its descriptors are what is asked for. */
static pid_t server_of(pid_t pid)
{
	cleanup_answer struct answer answer = ANSWER_NONE;
	char reason[PROTOCOL_ANSWER_MAX];
	struct text why = TEXT_ON(reason);
	struct proc_page page;
	int64_t server;

	if (proc_page(pid, &page) || !page.supervisor ||
	    client_ask(pid, PROTOCOL_STATUS, TIMEOUT_MS, true, &answer, &why) ||
	    protocol_get_int(answer.text, "server", &server) || server <= 0)
		return pid;
	return (pid_t)server;
}

static void parse(int argc, char **argv, bool *all, bool *json)
{
	static const struct option options[] = {
		{"all", no_argument, NULL, 'a'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option != 'a' && option != 'j')
			cmd_help_or_usage(option, argv[0], usage_text);
		*all |= option == 'a';
		*json |= option == 'j';
	}
	cmd_expect_word(argc, argv, "PID");
}

enum outcome cmd_list(int argc, char **argv)
{
	bool json = false, all = false;
	pid_t pid;
	cleanup_answer struct answer answer = ANSWER_NONE;
	char reason[PROTOCOL_ANSWER_MAX];
	struct text why = TEXT_ON(reason);
	enum outcome outcome;
	int64_t connections[CONNECTIONS_KINDS];
	struct state state;

	parse(argc, argv, &all, &json);
	pid = cmd_pid(argv[optind]);
	pid = all ? server_of(pid) : pid;
	outcome = client_ask(pid, PROTOCOL_LIST, TIMEOUT_MS, true, &answer, &why);
	if (outcome)
		return cmd_fail(outcome, &why);
	if (answer.fd < 0) {
		text_format(&why, "PID %d answered without its list", (int)pid);
		return cmd_fail(OUTCOME_FAILED, &why);
	}
	text_format(&why, "PID %d sent a list that cannot be read: ", (int)pid);
	if (state_read(answer.fd, false, &state, &why))
		return cmd_fail(OUTCOME_FAILED, &why);
	if (!all)
		connections_count(pid, answer.text, connections);
	if (all) {
		outcome = print_all(pid, &state, json);
	} else if (json) {
		print_json(pid, &state, connections);
	} else {
		print_human(&state);
		print_connections(connections);
	}
	state_free(&state);
	return outcome;
}
