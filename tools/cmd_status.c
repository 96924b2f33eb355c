/* SPDX-License-Identifier: MIT */
/* cprctl status: what a process says of itself. */
#define _GNU_SOURCE
#include "cmd.h"

#include "attr.h"
#include "grid.h"
#include "json.h"
#include "proc.h"

#include <stdlib.h>
#include <unistd.h>

enum { TIMEOUT_MS = 5000 };

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
	{"restarts", "restarts", NUMBER},
	{"last_restart_ms", "last restart took", DURATION},
	{"last_restart_drain_ms", "last drain took", DURATION},
	{"last_restart_carried", "last restart carried", NUMBER},
	{"last_restart_closed", "last restart closed", NUMBER},
	{"last_restart_cut", "last restart cut", NUMBER},
	{"test", "test", TEXT},
	{"signal", "doorbell signal", NUMBER},
	{"version", "version", TEXT},
};

static void print_json(const char *answer)
{
	struct json json = {.out = stdout};
	char value[WORDS_ANSWER_MAX + 1];
	int64_t number;

	json_object(&json, NULL);
	for (size_t i = 0; i < countof(fields); i++) {
		const struct field *f = &fields[i];

		if (f->how == TEXT && !words_get(answer, f->key, value, sizeof(value)))
			json_string(&json, f->key, value);
		else if (f->how == YES_NO && !words_get_int(answer, f->key, &number))
			json_bool(&json, f->key, number);
		else if (f->how != TEXT && f->how != YES_NO && !words_get_int(answer, f->key, &number))
			json_int(&json, f->key, number);
	}
	json_end(&json, '}');
}

/* The value as a person reads it; "-" if there is none. */
static void show(const struct field *f, const char *answer, struct text *t)
{
	int64_t number;

	if (f->how == TEXT)
		answer_show(answer, f->key, t);
	else if (words_get_int(answer, f->key, &number))
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

static void print_human(const char *answer)
{
	static const struct grid_column columns[] = {{NULL, false}, {NULL, false}};
	cleanup_grid struct grid *grid = grid_new(columns, countof(columns));

	for (size_t i = 0; i < countof(fields); i++) {
		char value[4 * WORDS_ANSWER_MAX];
		struct text t = TEXT_ON(value);

		show(&fields[i], answer, &t);
		grid_add(grid, "%s:", fields[i].label);
		grid_add(grid, "%s", value);
	}
	grid_print(grid, stdout);
}

enum outcome cmd_status(int argc, char **argv)
{
	bool json = cmd_json_option(argc, argv, "PID", usage_text);
	cleanup_answer struct answer answer = ANSWER_NONE;
	char reason[WORDS_ANSWER_MAX];
	struct text why = TEXT_ON(reason);
	enum outcome outcome = client_ask(cmd_pid(argv[optind]), WORDS_STATUS, TIMEOUT_MS, true, &answer, &why);

	if (outcome)
		return cmd_fail(outcome, &why);
	if (json)
		print_json(answer.text);
	else
		print_human(answer.text);
	return OUTCOME_DONE;
}
