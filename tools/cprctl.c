/* SPDX-License-Identifier: MIT */
/* Looks at processes under cpr, and restarts them: one command a file, cmd_*.c. */
#define _GNU_SOURCE
#include "cmd.h"

#include "base/attr.h"

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage_text[] = "Usage: cprctl COMMAND [ARG...]\n"
				 "\n"
				 "  ps [--json]                  what runs under cpr on this machine\n"
				 "  list PID [--all] [--json]    the descriptors that the process has by name\n"
				 "  status PID [--json]          generation, uptime, the last restart\n"
				 "  restart PID [--timeout SEC] [--exec PATH] [--wait ready|drained] [--dry-run] "
				 "[--json]\n"
				 "                               restart it without any client noticing\n"
				 "  rollback PID [--json]        the generation before serves again, in handover mode\n"
				 "  reexec PID [--json]          a supervisor goes on as its own new version\n"
				 "  top [--once] [--interval SEC] [--json]\n"
				 "                               servers, generations and connections, redrawn\n"
				 "  metrics                      the same and histograms, for Prometheus\n"
				 "  dump FILE|- [--json]         decode a state\n"
				 "  enable [--dry-run] [--now] [--json] UNIT...\n"
				 "                               reload and restart a service of systemd without any "
				 "client noticing\n"
				 "  disable [--now] [--json] UNIT...\n"
				 "                               no longer\n"
				 "\n"
				 "A service of systemd can be named in the place of a PID: its main process is meant.\n"
				 "\n"
				 "  -h, --help                   this text; `cprctl COMMAND --help` says more\n"
				 "  -V, --version                the version\n"
				 "\n"
				 "Exit status: 0 done; 1 failed, and the old generation serves on; 2 usage; 3 no such "
				 "process, or not under cpr;\n"
				 "4 no answer in time; 5 failed, and nothing serves.\n";

static const struct command {
	const char *full_name;
	enum outcome (*run)(int argc, char **argv);
} commands[] = {
	{"cprctl ps", cmd_ps},           {"cprctl list", cmd_list}, {"cprctl status", cmd_status},
	{"cprctl restart", cmd_restart}, {"cprctl rollback", cmd_rollback}, {"cprctl reexec", cmd_reexec},
	{"cprctl top", cmd_top},         {"cprctl metrics", cmd_metrics}, {"cprctl dump", cmd_dump},
	{"cprctl enable", cmd_enable},   {"cprctl disable", cmd_disable},
};

static const struct option options[] = {
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0},
};

static const struct command *find(const char *name)
{
	for (size_t i = 0; i < countof(commands); i++)
		if (!strcmp(commands[i].full_name + strlen("cprctl "), name))
			return &commands[i];
	return NULL;
}

/* A pipe without a reader, a full disk: what was not written was not done. */
static enum outcome written(enum outcome outcome)
{
	if (!ferror(stdout) && !fflush(stdout))
		return outcome;
	if (errno != EPIPE)
		warn("the result could not be written");
	return outcome ? outcome : OUTCOME_FAILED;
}

static enum outcome usage(void)
{
	fputs("Try 'cprctl --help'.\n", stderr);
	return OUTCOME_USAGE;
}

int main(int argc, char **argv)
{
	const struct command *command;

	signal(SIGPIPE, SIG_IGN);
	if (argc)
		argv[0] = program_invocation_short_name; /* getopt's messages begin with it */
	switch (getopt_long(argc, argv, "+hV", options, NULL)) {
	case 'h':
		fputs(usage_text, stdout);
		return (int)written(OUTCOME_DONE);
	case 'V':
		puts("cprctl " CPR_VERSION);
		return (int)written(OUTCOME_DONE);
	case '?':
		return (int)usage();
	}
	if (optind >= argc) {
		warnx("which command?");
		return (int)usage();
	}
	command = find(argv[optind]);
	if (!command) {
		warnx("\"%s\" is not a command: see `cprctl --help`", argv[optind]);
		return (int)usage();
	}
	argc -= optind;
	argv += optind;
	argv[0] = (char *)command->full_name; /* getopt's messages begin with it */
	optind = 0;                           /* 0: begin anew */
	return (int)written(command->run(argc, argv));
}
