/* SPDX-License-Identifier: MIT */
/* cprctl ps: what runs under cpr on this machine. */
#define _GNU_SOURCE
#include "cmd.h"

#include "base/attr.h"
#include "census.h"
#include "grid.h"
#include "json.h"
#include "proc.h"

#include <stdio.h>
#include <string.h>

enum { COMMAND_SIZE = 4200, DEPTH_MAX = 2 }; /* supervisor, generation, worker */

static const char usage_text[] =
	"Usage: cprctl ps [--json]\n"
	"Shows the processes under cpr that you may see: all of them to root, your own otherwise.\n"
	"Workers, the forked processes of a server, stand below their owner, which is the one to restart; generations "
	"below their supervisor.\n";

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

static void add_below(struct grid *grid, const struct census *rows, pid_t parent, int depth)
{
	for (size_t i = 0; i < rows->count; i++)
		if (census_parent(rows, &rows->row[i]) == parent) {
			add_row(grid, &rows->row[i], depth);
			if (depth < DEPTH_MAX)
				add_below(grid, rows, rows->row[i].pid, depth + 1);
		}
}

static void print_human(const struct census *rows)
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

static void print_json(const struct census *rows)
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
			json_string(&json, "role",
				    census_is_supervisor(row) ? "supervisor" : row->owner ? "worker" : "owner");
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
	cleanup_census struct census rows;

	census_take(&rows, true);
	if (json)
		print_json(&rows);
	else
		print_human(&rows);
	return OUTCOME_DONE;
}
