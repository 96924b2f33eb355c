/* SPDX-License-Identifier: MIT */
/* cprctl status: what a process says of itself. */
#define _GNU_SOURCE
#include "cmd.h"

#include "base/attr.h"
#include "connections.h"
#include "grid.h"
#include "json.h"
#include "patience.h"
#include "proc.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TIMEOUT_MS = 5000, LOOK_MS = 20 };

static const char usage_text[] =
	"Usage: cprctl status PID [--json]\n"
	"Shows the generation of a process under cpr, how long it has been up, its last restart and what it holds.\n"
	"A line of \"-\" means that the process does not say.\n";

/* What the answer may hold, in the order in which it is shown. */
enum how { TEXT, NUMBER, DURATION, YES_NO };

static const struct field {
	const char *key;
	const char *label;
	enum how how;
} fields[] = {
	{"pid", "pid", NUMBER},
	{"role", "role", TEXT},
	{"owner", "owner", NUMBER},
	{"server", "server", NUMBER},
	{"supervisor", "supervisor", NUMBER},
	{"command", "command", TEXT},
	{"directory", "directory", TEXT},
	{"generation", "generation", NUMBER},
	{"mode", "mode", TEXT},
	{"uptime_ms", "uptime", DURATION},
	{"generation_ms", "generation's uptime", DURATION},
	{"arriving", "arriving", YES_NO},
	{"draining", "draining", YES_NO},
	{"descriptors", "descriptors", NUMBER},
	{"orphans", "orphans", NUMBER},
	{"workers", "workers", NUMBER},
	{"connections", "connections", NUMBER},
	{"connections_fresh", "  fresh", NUMBER},
	{"connections_idle", "  between requests", NUMBER},
	{"connections_busy", "  busy", NUMBER},
	{"connections_waiting", "carried, not accepted yet", NUMBER},
	{"restarts", "restarts", NUMBER},
	{"last_restart_ms", "last restart took", DURATION},
	{"last_restart_drain_ms", "last drain took", DURATION},
	{"last_restart_carried", "last restart carried", NUMBER},
	{"last_restart_closed", "last restart closed", NUMBER},
	{"last_restart_cut", "last restart cut", NUMBER},
	{"last_restart_gate_us", "no generation accepted (us)", NUMBER},
	{"test", "test", TEXT},
	{"graceful_signal", "graceful signal", TEXT},
	{"signal", "doorbell signal", NUMBER},
	{"full", "tables that were full", TEXT},
	{"version", "version", TEXT},
};

/* What is to be shown. The connections are not only those of the process that answered. */
struct status {
	const char *answer;
	int64_t connections[CONNECTIONS_KINDS];
	bool counted;
};

/* 0, or -ENOENT: there is none. */
static int number_of(const struct field *f, const struct status *status, int64_t *number)
{
	for (size_t i = 0; status->counted && i < CONNECTIONS_KINDS; i++)
		if (!strcmp(f->key, connections_key[i])) {
			*number = status->connections[i];
			return 0;
		}
	return protocol_get_int(status->answer, f->key, number);
}

static void print_json(const struct status *status)
{
	struct json json = {.out = stdout};
	char value[PROTOCOL_ANSWER_MAX + 1];
	int64_t number;

	json_object(&json, NULL);
	for (size_t i = 0; i < countof(fields); i++) {
		const struct field *f = &fields[i];

		if (f->how == TEXT && !protocol_get(status->answer, f->key, value, sizeof(value)))
			json_string(&json, f->key, value);
		else if (f->how == YES_NO && !number_of(f, status, &number))
			json_bool(&json, f->key, number);
		else if (f->how != TEXT && f->how != YES_NO && !number_of(f, status, &number))
			json_int(&json, f->key, number);
	}
	json_end(&json, '}');
}

/* The value as a person reads it; "-" if there is none. */
static void show(const struct field *f, const struct status *status, struct text *t)
{
	int64_t number;

	if (f->how == TEXT)
		answer_show(status->answer, f->key, t);
	else if (number_of(f, status, &number))
		;
	else if (f->how == NUMBER)
		text_add_int(t, number);
	else if (f->how == DURATION)
		cmd_duration(number, t);
	else
		text_add(t, number ? "yes" : "no");
	if (!t->used)
		text_add(t, "-");
}

static void print_human(const struct status *status)
{
	static const struct grid_column columns[] = {{NULL, false}, {NULL, false}};
	cleanup_grid struct grid *grid = grid_new(columns, countof(columns));

	for (size_t i = 0; i < countof(fields); i++) {
		char value[4 * PROTOCOL_ANSWER_MAX];
		struct text t = TEXT_ON(value);

		show(&fields[i], status, &t);
		grid_add(grid, "%s:", fields[i].label);
		grid_add(grid, "%s", value);
	}
	grid_print(grid, stdout);
}

static pid_t server; /* that is asked */

/*
 * The process may stop while we wait for it. Its signal to stop may have been sent a moment ago; or long ago, if it
 * waits for a child in vfork(2).
 */
static int poll_unless_stopped(struct pollfd *on, size_t count, int ms)
{
	int n;

	do {
		const int step = ms > LOOK_MS ? LOOK_MS : ms;

		n = poll(on, count, step);
		ms -= step;
		if (!n && proc_is_stopped(server))
			n = (errno = ECANCELED, -1);
	} while (!n && ms > 0);
	return n;
}

/* Of a supervisor, those of the generation that serves. */
static bool count_connections(pid_t pid, const char *text, int64_t n[CONNECTIONS_KINDS])
{
	cleanup_answer struct answer answer = ANSWER_NONE;
	char reason[PROTOCOL_ANSWER_MAX];
	struct text why = TEXT_ON(reason);
	int64_t number;

	if (protocol_get_int(text, "server", &number))
		return connections_count(pid, text, n);
	server = (pid_t)number;
	patience_is(poll_unless_stopped);
	return server > 0 && !proc_is_stopped(server) &&
	       !client_ask(server, PROTOCOL_STATUS, TIMEOUT_MS, true, &answer, &why) &&
	       connections_count(server, answer.text, n);
}

enum outcome cmd_status(int argc, char **argv)
{
	bool json = cmd_json_option(argc, argv, "PID", usage_text);
	cleanup_answer struct answer answer = ANSWER_NONE;
	char reason[PROTOCOL_ANSWER_MAX];
	struct text why = TEXT_ON(reason);
	pid_t pid = cmd_pid(argv[optind]);
	struct status status = {.answer = answer.text};
	enum outcome outcome = client_ask(pid, PROTOCOL_STATUS, TIMEOUT_MS, true, &answer, &why);

	if (outcome)
		return cmd_fail(outcome, &why);
	status.counted = count_connections(pid, answer.text, status.connections);
	if (json)
		print_json(&status);
	else
		print_human(&status);
	return OUTCOME_DONE;
}
