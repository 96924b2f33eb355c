/* SPDX-License-Identifier: MIT */
/* Every process under cpr on this machine, and what each says of itself. */
#define _GNU_SOURCE
#include "census.h"

#include "own.h"
#include "proc.h"

#include <err.h>
#include <stdio.h>
#include <string.h>

enum { TIMEOUT_MS = 1000 };

void census_free(struct census *rows)
{
	free(rows->row);
}

/* Asks one process. What it does not say stays empty: it is under cpr all the same. */
static void ask(struct row *row, bool says)
{
	char reason[PROTOCOL_ANSWER_MAX];
	struct text why = TEXT_ON(reason);
	int64_t owner, supervisor;

	row->answer = ANSWER_NONE;
	if (client_ask(row->pid, PROTOCOL_STATUS, TIMEOUT_MS, false, &row->answer, &why)) {
		if (says)
			warnx("%s", reason);
		row->silent = true;
	} else if (!protocol_get_int(row->answer.text, "owner", &owner) && owner != row->pid) {
		row->owner = (pid_t)owner;
	} else if (!protocol_get_int(row->answer.text, "supervisor", &supervisor)) {
		row->supervisor = (pid_t)supervisor;
	}
	answer_close(&row->answer);
}

/* "one=NUMBER PID LEFT PHASE" of a supervisor's answer: what this process does. */
static void take_phase(struct census *rows, const char *line)
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

static void take_phases(struct census *rows)
{
	for (size_t i = 0; i < rows->count; i++)
		for (const char *line = rows->row[i].answer.text; line && *line;
		     line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
			if (!strncmp(line, "one=", 4))
				take_phase(rows, line);
}

void census_take(struct census *rows, bool says)
{
	size_t count;
	cleanup_free pid_t *pids = proc_pids(&count);

	*rows = (struct census){0};
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
		ask(longer, says);
	}
	take_phases(rows);
}

static bool is_here(const struct census *rows, pid_t pid)
{
	for (size_t i = 0; i < rows->count; i++)
		if (rows->row[i].pid == pid)
			return true;
	return false;
}

pid_t census_parent(const struct census *rows, const struct row *row)
{
	if (row->owner)
		return is_here(rows, row->owner) ? row->owner : 0;
	return row->supervisor && is_here(rows, row->supervisor) ? row->supervisor : 0;
}

bool census_is_supervisor(const struct row *row)
{
	char role[16];

	return !protocol_get(row->answer.text, "role", role, sizeof(role)) && !strcmp(role, "supervisor");
}
