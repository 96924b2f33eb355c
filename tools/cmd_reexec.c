/* SPDX-License-Identifier: MIT */
/* cprctl reexec: a supervisor goes on as its own new version. */
#define _GNU_SOURCE
#include "cmd.h"

#include "base/io.h"
#include "json.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum { TIMEOUT_S = 20 }; /* over the supervisor's own limits */

static const char usage_text[] =
	"Usage: cprctl reexec PID [--json]\n"
	"The supervisor executes its own file again, which an upgrade has replaced: PID is that of the supervisor\n"
	"(cpr-exec --mode=handover), or of its server. The server does not notice, old generations go on.\n"
	"The new version is asked first whether it can take over: if not, the supervisor goes on as it is.\n"
	"Exit status: 0 done; 1 it goes on as it is; 3 no supervisor; 4 no answer in time.\n";

static void print(const struct answer *answer, pid_t pid, int64_t took_ms, bool as_json)
{
	int64_t generation = 0, descriptors = 0, draining = 0;
	struct json json = {.out = stdout};
	char version[64] = "-";

	protocol_get(answer->text, "version", version, sizeof(version));
	protocol_get_int(answer->text, "generation", &generation);
	protocol_get_int(answer->text, "descriptors", &descriptors);
	protocol_get_int(answer->text, "draining", &draining);
	if (!as_json) {
		printf("reexecuted %d: version %s, generation %lld serves, %lld %s, %lld draining, %lld ms\n",
		       (int)pid, version, (long long)generation, (long long)descriptors,
		       descriptors == 1 ? "descriptor" : "descriptors", (long long)draining, (long long)took_ms);
		return;
	}
	json_object(&json, NULL);
	json_int(&json, "pid", pid);
	json_string(&json, "version", version);
	json_int(&json, "generation", generation);
	json_int(&json, "descriptors", descriptors);
	json_int(&json, "draining", draining);
	json_int(&json, "ms", took_ms);
	json_end(&json, '}');
}

enum outcome cmd_reexec(int argc, char **argv)
{
	bool json = cmd_json_option(argc, argv, "PID", usage_text);
	cleanup_answer struct answer answer = ANSWER_NONE;
	int64_t began = io_now();
	pid_t pid;
	enum outcome outcome = cmd_ask_supervisor(argv[optind], PROTOCOL_REEXEC, TIMEOUT_S, &answer, &pid);

	if (!outcome)
		print(&answer, pid, (io_now() - began) / 1000000, json);
	return outcome;
}
