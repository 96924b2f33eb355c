/* SPDX-License-Identifier: MIT */
/* cprctl rollback: the old generation, which a supervisor keeps, serves again. */
#define _GNU_SOURCE
#include "cmd.h"

#include "base/io.h"
#include "json.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum { TIMEOUT_S = 10 };

static const char usage_text[] =
	"Usage: cprctl rollback PID [--json]\n"
	"Gives the work back to the generation before: PID is that of its supervisor (cpr-exec --mode=handover "
	"--rollback=SEC), or of its server.\n"
	"The way back takes no start. It is there for --rollback seconds after a restart.\n"
	"Exit status: 0 done; 1 there is no way back, or it failed; 3 no supervisor; 4 no answer in time.\n";

static void print(const struct answer *answer, pid_t pid, bool as_json)
{
	int64_t generation = 0, server = 0, gate_us = 0;
	struct json json = {.out = stdout};

	protocol_get_int(answer->text, "generation", &generation);
	protocol_get_int(answer->text, "pid", &server);
	protocol_get_int(answer->text, "gate_us", &gate_us);
	if (!as_json) {
		printf("rolled back %d: generation %lld, PID %lld, serves again; no generation accepted for %lld us\n",
		       (int)pid, (long long)generation, (long long)server, (long long)gate_us);
		return;
	}
	json_object(&json, NULL);
	json_int(&json, "pid", server);
	json_int(&json, "generation", generation);
	json_int(&json, "gate_us", gate_us);
	json_end(&json, '}');
}

enum outcome cmd_rollback(int argc, char **argv)
{
	bool json = cmd_json_option(argc, argv, "PID", usage_text);
	cleanup_answer struct answer answer = ANSWER_NONE;
	pid_t pid;
	enum outcome outcome = cmd_ask_supervisor(argv[optind], PROTOCOL_ROLLBACK, TIMEOUT_S, &answer, &pid);

	if (!outcome)
		print(&answer, pid, json);
	return outcome;
}
