/* SPDX-License-Identifier: MIT */
/* What the commands of cprctl have in common: options, durations, names. */
#define _GNU_SOURCE
#include "cmd.h"

#include "base/attr.h"
#include "base/io.h"
#include "manager.h"
#include "unit.h"

#include <bsd/stdlib.h>
#include <ctype.h>
#include <err.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cmd_help_or_usage(int option, const char *command, const char *usage)
{
	if (option == 'h') {
		fputs(usage, stdout);
		exit(fflush(stdout) ? OUTCOME_FAILED : OUTCOME_DONE);
	}
	fprintf(stderr, "Try '%s --help'.\n", command);
	exit(OUTCOME_USAGE);
}

void cmd_expect_word(int argc, char **argv, const char *word)
{
	int wanted = word != NULL, given = argc - optind;

	if (given == wanted)
		return;
	if (given > wanted || !word)
		warnx("\"%s\" is one word too many", argv[optind + wanted]);
	else
		warnx("%s is missing", word);
	cmd_help_or_usage('?', argv[0], NULL);
}

bool cmd_json_option(int argc, char **argv, const char *word, const char *usage)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	bool json = false;
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option != 'j')
			cmd_help_or_usage(option, argv[0], usage);
		json = true;
	}
	cmd_expect_word(argc, argv, word);
	return json;
}

void cmd_no_option(int argc, char **argv, const char *usage)
{
	static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
	int option = getopt_long(argc, argv, "h", options, NULL);

	if (option != -1)
		cmd_help_or_usage(option, argv[0], usage);
	cmd_expect_word(argc, argv, NULL);
}

/* The main process of a unit that runs, which need not be under cpr; 0: there is no unit of this name. */
static pid_t unit_pid(const char *word)
{
	char *const argv[] = {"systemctl", "show", "-p", "Id,LoadState,MainPID", "--", (char *)word, NULL};
	char *shown = NULL; /* what the unit's words point into, for as long as this program runs */
	char unused[512];
	struct text why = TEXT_ON(unused);
	struct unit unit = {0};

	if (manager_ask(argv, &shown, &why))
		return 0;
	unit_read_properties(&unit, shown);
	if (!unit.load_state || strcmp(unit.load_state, "loaded"))
		return 0;
	if (!unit.main_pid || !strcmp(unit.main_pid, "0"))
		errx(OUTCOME_ABSENT, "%s does not run: `systemctl status %s` says more", unit.id, unit.id);
	return (pid_t)strtol(unit.main_pid, NULL, 10);
}

pid_t cmd_pid(const char *word)
{
	const char *error;
	long long pid = strtonum(word, 1, INT32_MAX, &error);

	if (error && isalnum((unsigned char)*word) && (pid = unit_pid(word)))
		return (pid_t)pid;
	if (error)
		errx(OUTCOME_USAGE,
		     "\"%s\" is not a process id, which is a number from 1, and no unit: `cprctl ps` shows what is "
		     "under cpr",
		     word);
	return (pid_t)pid;
}

enum { TIMEOUT_MS = 5000 };

/*
 * *client becomes the supervisor of the server that it is, if it is no supervisor itself. OUTCOME_ABSENT: it has none.
 */
static enum outcome supervisor_of(struct client *client, struct text *why)
{
	cleanup_client struct client supervisor = CLIENT_NONE;
	cleanup_answer struct answer answer = ANSWER_NONE;
	char unused[512];
	struct text gone = TEXT_ON(unused);
	enum outcome outcome;
	int64_t pid;

	if (client->supervisor)
		return OUTCOME_DONE;
	outcome = client_call_again(client, PROTOCOL_STATUS, io_now() + TIMEOUT_MS * INT64_C(1000000), &answer, why);
	if (outcome)
		return outcome;
	if (protocol_get_int(answer.text, "supervisor", &pid) || client_open(&supervisor, (pid_t)pid, false, &gone) ||
	    !supervisor.supervisor) {
		text_format(why, "PID %d has no supervisor: it is not in handover mode", (int)client->pid);
		return OUTCOME_ABSENT;
	}
	client_close(client);
	*client = supervisor;
	supervisor = CLIENT_NONE;
	return OUTCOME_DONE;
}

enum outcome cmd_ask_supervisor(const char *word, enum protocol_verb verb, int timeout_s, struct answer *answer,
				pid_t *supervisor)
{
	cleanup_client struct client client = CLIENT_NONE;
	char reason[2 * PROTOCOL_ANSWER_MAX];
	struct text why = TEXT_ON(reason);
	enum outcome outcome = client_open(&client, cmd_pid(word), true, &why);

	if (!outcome)
		outcome = supervisor_of(&client, &why);
	if (!outcome)
		outcome = client_call_again(&client, verb, io_now() + timeout_s * INT64_C(1000000000), answer, &why);
	*supervisor = client.pid;
	return outcome ? cmd_fail(outcome, &why) : OUTCOME_DONE;
}

enum outcome cmd_fail(enum outcome outcome, const struct text *why)
{
	warnx("%s", why->bytes);
	return outcome;
}

void cmd_duration(int64_t ms, struct text *t)
{
	const long long s = ms / 1000;

	if (ms < 1000)
		text_format(t, "%lld ms", (long long)ms);
	else if (s < 60)
		text_format(t, "%lld s", s);
	else if (s < 3600)
		text_format(t, "%lld min %lld s", s / 60, s % 60);
	else if (s < 86400)
		text_format(t, "%lld h %lld min", s / 3600, s / 60 % 60);
	else
		text_format(t, "%lld d %lld h", s / 86400, s / 3600 % 24);
}

const char *cmd_kind(enum entry_kind kind)
{
	static const char *const names[] = {
		[ENTRY_STREAM] = "stream", [ENTRY_DATAGRAM] = "datagram", [ENTRY_FIFO] = "fifo",
		[ENTRY_DEVICE] = "device", [ENTRY_FILE] = "file",         [ENTRY_MEMFD] = "memfd",
		[ENTRY_API] = "api",
	};

	return (size_t)kind < countof(names) && names[kind] ? names[kind] : "?";
}
