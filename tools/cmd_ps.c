/* SPDX-License-Identifier: MIT */
/* cprctl ps: what runs under cpr on this machine. */
#define _GNU_SOURCE
#include "cmd.h"

#include "base/attr.h"
#include "grid.h"
#include "json.h"
#include "own.h"
#include "proc.h"

#include <err.h>
#include <stdio.h>
#include <string.h>

enum { TIMEOUT_MS = 1000, COMMAND_SIZE = 4200, DEPTH_MAX = 2 }; /* supervisor, generation, worker */

static const char usage_text[] =
	"Usage: cprctl ps [--json]\n"
	"Shows the processes under cpr that you may see: all of them to root, your own otherwise.\n"
	"Workers, the forked processes of a server, stand below their owner, which is the one to restart; generations "
	"below their supervisor.\n";

struct row {
	pid_t pid;
	pid_t owner;      /* 0: it is an owner itself, or does not say */
	pid_t supervisor; /* 0: it has none */
	char phase[48];   /* what its supervisor says of it */
	uid_t uid;
	bool silent; /* it did not answer */
	struct answer answer;
};

struct rows {
	struct row *row;
	size_t count;
};

static void free_rows(struct rows *rows)
{
	free(rows->row);
}

/* Asks one process. What it does not say stays empty: it is under cpr all the same. */
static void ask(struct row *row)
{
	char reason[PROTOCOL_ANSWER_MAX];
	struct text why = TEXT_ON(reason);
	int64_t owner, supervisor;

	row->answer = ANSWER_NONE;
	if (client_ask(row->pid, PROTOCOL_STATUS, TIMEOUT_MS, false, &row->answer, &why)) {
		warnx("%s", reason);
		row->silent = true;
	} else if (!protocol_get_int(row->answer.text, "owner", &owner) && owner != row->pid) {
		row->owner = (pid_t)owner;
	} else if (!protocol_get_int(row->answer.text, "supervisor", &supervisor)) {
		row->supervisor = (pid_t)supervisor;
	}
	answer_close(&row->answer);
}

static void collect(struct rows *rows)
{
	size_t count;
	cleanup_free pid_t *pids = proc_pids(&count);

	for (size_t i = 0; i < count; i++) {
		struct proc_page page;
		struct proc proc;
		struct row *longer;

		if (proc_page(pids[i], &page) || proc_read(pids[i], &proc))
			continue;
		longer = reallocarray(rows->row, rows->count + 1, sizeof(*longer));
		if (!longer)
			err(OUTCOME_FAILED, NULL);
		rows->row = longer;
		longer += rows->count++;
		*longer = (struct row){.pid = pids[i], .uid = proc.uid};
		ask(longer);
	}
}

static bool is_here(const struct rows *rows, pid_t pid)
{
	for (size_t i = 0; i < rows->count; i++)
		if (rows->row[i].pid == pid)
			return true;
	return false;
}

/* Below which one it stands; 0: none. A supervisor that has been killed is none. */
static pid_t parent_of(const struct rows *rows, const struct row *row)
{
	if (row->owner)
		return is_here(rows, row->owner) ? row->owner : 0;
	return row->supervisor && is_here(rows, row->supervisor) ? row->supervisor : 0;
}

/* "one=NUMBER PID LEFT PHASE" of a supervisor's answer: what this process does. */
static void take_phase(struct rows *rows, const char *line)
{
	int number, pid, left, at = 0;
	size_t n = strcspn(line, "\n");

	if (sscanf(line, "one=%d %d %d %n", &number, &pid, &left, &at) < 3 || !at || (size_t)at > n)
		return;
	for (size_t i = 0; i < rows->count; i++) {
		struct row *row = &rows->row[i];
		struct text t;

		if (row->pid != pid)
			continue;
		t = TEXT_ON(row->phase);
		text_add_bytes(&t, line + at, n - (size_t)at);
		if (left > 0)
			text_format(&t, " %d", left);
	}
}

static void take_phases(struct rows *rows)
{
	for (size_t i = 0; i < rows->count; i++)
		for (const char *line = rows->row[i].answer.text; line && *line;
		     line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
			if (!strncmp(line, "one=", 4))
				take_phase(rows, line);
}

/* A number of the answer, or "-". */
static void add_number(struct grid *grid, const char *answer, const char *key)
{
	int64_t number;

	if (protocol_get_int(answer, key, &number))
		grid_add(grid, "-");
	else
		grid_add(grid, "%lld", (long long)number);
}

static void add_row(struct grid *grid, const struct row *row, int depth)
{
	char user[64], mode[64] = "", uptime[64] = "", command[COMMAND_SIZE];
	struct text user_text = TEXT_ON(user), uptime_text = TEXT_ON(uptime), command_text = TEXT_ON(command);
	int64_t ms;

	proc_user(row->uid, &user_text);
	proc_command(row->pid, &command_text);
	protocol_get(row->answer.text, "mode", mode, sizeof(mode));
	if (!protocol_get_int(row->answer.text, "uptime_ms", &ms))
		cmd_duration(ms, &uptime_text);
	grid_add(grid, "%d", (int)row->pid);
	grid_add(grid, "%s", user);
	add_number(grid, row->answer.text, "generation");
	grid_add(grid, "%s", *mode ? mode : "-");
	grid_add(grid, "%s", *uptime ? uptime : "-");
	add_number(grid, row->answer.text, "descriptors");
	grid_add(grid, "%*s%s%s%s%s%s", 4 * (depth > 1 ? depth - 1 : 0), "", depth ? " \\_ " : "",
		 *row->phase ? "[" : "", row->phase, *row->phase ? "] " : "", command);
}

static void add_below(struct grid *grid, const struct rows *rows, pid_t parent, int depth)
{
	for (size_t i = 0; i < rows->count; i++)
		if (parent_of(rows, &rows->row[i]) == parent) {
			add_row(grid, &rows->row[i], depth);
			if (depth < DEPTH_MAX)
				add_below(grid, rows, rows->row[i].pid, depth + 1);
		}
}

static void print_human(const struct rows *rows)
{
	static const struct grid_column columns[] = {
		{"PID", true},    {"USER", false}, {"GEN", true},      {"MODE", false},
		{"UPTIME", true}, {"FDS", true},   {"COMMAND", false},
	};
	cleanup_grid struct grid *grid = grid_new(columns, countof(columns));

	add_below(grid, rows, 0, 0);
	grid_print(grid, stdout);
}

static void json_number(struct json *json, const char *answer, const char *key)
{
	int64_t number;

	if (!protocol_get_int(answer, key, &number))
		json_int(json, key, number);
}

static bool is_supervisor(const struct row *row)
{
	char role[16];

	return !protocol_get(row->answer.text, "role", role, sizeof(role)) && !strcmp(role, "supervisor");
}

static void print_json(const struct rows *rows)
{
	struct json json = {.out = stdout};

	json_array(&json, NULL);
	for (size_t i = 0; i < rows->count; i++) {
		const struct row *row = &rows->row[i];
		char user[64], mode[64], command[COMMAND_SIZE];
		struct text user_text = TEXT_ON(user), command_text = TEXT_ON(command);

		proc_user(row->uid, &user_text);
		proc_command(row->pid, &command_text);
		json_object(&json, NULL);
		json_int(&json, "pid", row->pid);
		json_string(&json, "user", user);
		json_string(&json, "command", command);
		json_bool(&json, "answers", !row->silent);
		if (!row->silent)
			json_string(&json, "role", is_supervisor(row) ? "supervisor" : row->owner ? "worker" : "owner");
		if (row->owner)
			json_int(&json, "owner", row->owner);
		if (row->supervisor)
			json_int(&json, "supervisor", row->supervisor);
		if (*row->phase)
			json_string(&json, "phase", row->phase);
		json_number(&json, row->answer.text, "generation");
		if (!protocol_get(row->answer.text, "mode", mode, sizeof(mode)))
			json_string(&json, "mode", mode);
		json_number(&json, row->answer.text, "uptime_ms");
		json_number(&json, row->answer.text, "descriptors");
		json_end(&json, '}');
	}
	json_end(&json, ']');
}

enum outcome cmd_ps(int argc, char **argv)
{
	bool json = cmd_json_option(argc, argv, NULL, usage_text);
	__attribute__((cleanup(free_rows))) struct rows rows = {0};

	collect(&rows);
	take_phases(&rows);
	if (json)
		print_json(&rows);
	else
		print_human(&rows);
	return OUTCOME_DONE;
}
