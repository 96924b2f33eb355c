/* SPDX-License-Identifier: MIT */
/* cpr-exec's command line. */
#define _GNU_SOURCE
#include "exec_options.h"

#include "base/log.h"
#include "model/protocol.h"
#include "model/settings.h"
#include "rulebook.h"
#include "signame.h"

#include <bsd/stdlib.h>
#include <err.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { GENERATIONS_MAX = 100, CANARY_DEFAULT = 30 };

static const char usage_text[] =
	"Usage: cpr-exec [OPTION...] [--] COMMAND [ARG...]\n"
	"       cpr-exec --check COMMAND\n"
	"       cpr-exec --attach=PID [--dry-run] [OPTION...] [-- COMMAND [ARG...]]\n"
	"       cpr-exec --adopt=PID [OPTION...]\n"
	"Starts COMMAND so that `cprctl restart PID` can restart it without any client noticing.\n"
	"\n"
	"  -m, --mode=exec|handover  how it restarts: in the same process (exec, the default),\n"
	"                            or beside the old one, under a supervisor\n"
	"  -k, --keep=GLOB           descriptors of such a name survive a restart\n"
	"  -x, --drop=GLOB           ... and such ones do not\n"
	"  -c, --carry=GLOB          idle connections of such listeners are carried over\n"
	"      --no-carry            no connection is carried over\n"
	"  -f, --rules=FILE          rules like the four above, one a line; the first that matches counts\n"
	"  -d, --drain=SEC           how long a restart waits for requests under way (5);\n"
	"                            handover: how long the old one serves on (3600; 5 with\n"
	"                            --one-at-a-time)\n"
	"  -g, --grace=SEC           when an unclaimed descriptor is closed (30)\n"
	"  -p, --pidfile=FILE        holds the program's pid\n"
	"  -u, --unlink=FILE         is removed before the program is started again\n"
	"  -t, --test=COMMAND        must succeed before a restart, like `nginx -t`\n"
	"      --ready-timeout=SEC   how long a new generation may take to be ready (60)\n"
	"      --retire-signal=SIG   ends the workers of an old generation (TERM)\n"
	"      --restart-signal=SIG  a signal that restarts the program (none)\n"
	"      --io-uring=deny|allow deny: the program finds no io_uring, and takes epoll (deny)\n"
	"Handover mode only:\n"
	"      --ready-http=PATH[=STATUS]\n"
	"                            the next generation must answer a GET of PATH like this (any 2xx)\n"
	"      --ready-command=CMD   ... or this must succeed, which finds it at CPR_DOOR_ADDRESS,\n"
	"                            CPR_DOOR_PORT, CPR_DOOR_PATH\n"
	"      --graceful-signal=SIG tells an old one to end its connections (by the program's name, or none)\n"
	"      --one-at-a-time       the old generation ends before the next one starts, and clients wait:\n"
	"                            for a server that keeps data of its own (by the program's name, or not)\n"
	"      --no-defaults         takes nothing by the program's name\n"
	"      --generations=N       so many old generations may drain at a time (3)\n"
	"      --rollback=SEC        the old one is kept so long, for `cprctl rollback` or when the new one dies (0)\n"
	"      --canary=PERCENT[:SEC]\n"
	"                            for SEC seconds (30) the new one takes a share of the clients only\n"
	"      --watch=FILE          a change of FILE restarts the program, half a second later\n"
	"      --fdstore[=N]         `systemctl restart` loses nothing: listeners and idle connections\n"
	"                            wait in the service manager's descriptor store, which takes N\n"
	"      --stop-timeout=SEC    a server that was told to end is killed after that time (5)\n"
	"      --crash-limit=N/SEC   so often is a server that crashes started again (5/60)\n"
	"      --attach=PID          starts the command of PID, a server without cpr, again with its\n"
	"                            listeners, and ends PID when that serves; --dry-run only shows\n"
	"      --adopt=PID           becomes the supervisor of the server PID, if its own was killed\n"
	"Both:\n"
	"  -l, --log=LEVEL[:FILE]    error, warn, info or debug, to stderr or to FILE (warn)\n"
	"      --check               only say whether COMMAND can be served: exit status 0 or 1\n"
	"  -h, --help                this text\n"
	"  -V, --version             the version\n"
	"\n"
	"Exit status: 1 cpr cannot start it, 2 usage, 126 COMMAND cannot be executed or served, 127 not found;\n"
	"otherwise that of COMMAND.\n";

/* Long options without a letter. */
enum {
	OPT_NO_CARRY = 256,
	OPT_READY_TIMEOUT,
	OPT_RETIRE_SIGNAL,
	OPT_RESTART_SIGNAL,
	OPT_IO_URING,
	OPT_CHECK,
	OPT_READY_HTTP,
	OPT_READY_COMMAND,
	OPT_GRACEFUL_SIGNAL,
	OPT_NO_DEFAULTS,
	OPT_GENERATIONS,
	OPT_CRASH_LIMIT,
	OPT_ROLLBACK,
	OPT_WATCH,
	OPT_ATTACH,
	OPT_DRY_RUN,
	OPT_FDSTORE,
	OPT_RESUME,
	OPT_ADOPT,
	OPT_CANARY,
	OPT_ONE_AT_A_TIME,
	OPT_STOP_TIMEOUT,
};

/* +: the first word that is no option is the command */
static const char short_options[] = "+m:k:x:c:f:d:g:p:u:t:l:hV";

enum { BARE = 0, VALUE = 1, MAYBE = 2 /* a value, or none */, HANDOVER = 4 /* for that mode only */ };

/* What an option does: `word` is the setting that it makes, or the rule. */
struct action {
	int option;
	const char *name;
	int kind;
	void (*take)(const struct action *action, const char *value); /* NULL: take_option does it */
	const char *word;
	int least;
};

static struct exec_options given = {
	.supervisor = {.generations = 3, .crash_limit = 5, .crash_window_s = 60},
	.resumed_state = -1,
};

void exec_options_set(const char *name, const char *value)
{
	if (setenv(name, value, 1))
		err(FAILED, "%s", name);
}

/* The name of a file, absolute: the library, and the next generation, may stand elsewhere. To be freed. */
static char *absolute(const char *option, const char *file)
{
	cleanup_free char *cwd = *file == '/' ? NULL : getcwd(NULL, 0);
	char *path;

	if (!*file || strchr(file, '\n'))
		errx(USAGE, "%s \"%s\" is not a file name that can be used: it is empty or holds a newline", option,
		     file);
	if (*file != '/' && !cwd)
		err(FAILED, "%s %s: the working directory", option, file);
	if (asprintf(&path, "%s%s%s", cwd ? cwd : "", cwd ? "/" : "", file) < 0)
		err(FAILED, NULL);
	return path;
}

static void take_mode(const struct action *action, const char *mode)
{
	given.handover = !strcmp(mode, "handover");
	if (!given.handover && strcmp(mode, "exec"))
		errx(USAGE, "%s \"%s\": there are exec and handover", action->name, mode);
}

static void take_rule(const struct action *action, const char *glob)
{
	rulebook_add(action->name, action->word, glob);
}

static void take_rules(const struct action *action, const char *path)
{
	(void)action;
	rulebook_read(path);
}

static void take_number(const struct action *action, const char *value)
{
	char digits[24];
	const char *error;
	long long number = strtonum(value, action->least, SECONDS_MAX, &error);

	if (error)
		errx(USAGE, "%s \"%s\" is %s: give seconds, from %d to %d", action->name, value, error, action->least,
		     (int)SECONDS_MAX);
	snprintf(digits, sizeof(digits), "%lld", number); /* as the library reads it: no blanks, no + */
	exec_options_set(action->word, digits);
}

static void take_file(const struct action *action, const char *file)
{
	cleanup_free char *path = absolute(action->name, file);

	exec_options_set(action->word, path);
}

/* Adds to the list, which the options of this command line make up, not one that the environment brought. */
static void take_file_too(const struct action *action, const char *file)
{
	static char *list;
	cleanup_free char *path = absolute(action->name, file);
	char *longer;

	if (asprintf(&longer, "%s%s%s", list ? list : "", list ? "\n" : "", path) < 0)
		err(FAILED, NULL);
	free(list);
	list = longer;
	exec_options_set(action->word, list);
}

static void take_command(const struct action *action, const char *command)
{
	if (!*command)
		errx(USAGE, "%s is given an empty command", action->name);
	exec_options_set(action->word, command);
}

/* LEVEL, or LEVEL:FILE with the file made absolute. */
static void take_log(const struct action *action, const char *value)
{
	cleanup_free char *level = strdup(value);
	cleanup_free char *path = NULL, *setting = NULL;
	enum log_level parsed;
	char *file;

	if (!level)
		err(FAILED, NULL);
	file = strchr(level, ':');
	if (file)
		*file++ = '\0';
	if (log_level_parse(level, &parsed))
		errx(USAGE, "%s \"%s\": a level is one of error, warn, info, debug; a file may follow it after a colon",
		     action->name, value);
	path = file ? absolute(action->name, file) : NULL;
	if (asprintf(&setting, "%s%s%s", level, path ? ":" : "", path ? path : "") < 0)
		err(FAILED, NULL);
	exec_options_set(action->word, setting);
}

int exec_options_doorbell(void)
{
	const char *given = getenv(SETTINGS_SIGNAL), *error = NULL;
	long long number = given ? strtonum(given, SIGRTMIN, SIGRTMAX, &error) : 0;

	return given && !error ? (int)number : SIGRTMAX - PROTOCOL_SIGNAL_DEFAULT_BELOW_MAX;
}

/* A signal that may be sent, or caught. Ends this program if it is none. */
static int parse_signal(const struct action *action, const char *value)
{
	int signo = signame_parse(value);

	if (signo < 0)
		errx(USAGE, "%s \"%s\" is not a signal: give a name (HUP, SIGUSR2, RTMIN+1) or a number, see `kill -l`",
		     action->name, value);
	if (signo == SIGSTOP || (signo == SIGKILL && action->option == OPT_RESTART_SIGNAL))
		errx(USAGE, "%s %s: no program can catch that signal", action->name, value);
	if (signo == exec_options_doorbell())
		errx(USAGE, "%s %s: that is the signal that cprctl rings with (%s changes it)", action->name, value,
		     SETTINGS_SIGNAL);
	return signo;
}

static void take_signal(const struct action *action, const char *value)
{
	char digits[16];

	snprintf(digits, sizeof(digits), "%d", parse_signal(action, value));
	exec_options_set(action->word, digits);
}

static void take_io_uring(const struct action *action, const char *value)
{
	if (strcmp(value, "deny") && strcmp(value, "allow"))
		errx(USAGE, "%s \"%s\": give deny or allow", action->name, value);
	exec_options_set(action->word, value);
}

static void take_graceful_signal(const struct action *action, const char *value)
{
	given.supervisor.graceful_signal = parse_signal(action, value);
}

static void take_no_defaults(const struct action *action, const char *value)
{
	(void)action;
	(void)value;
	given.no_defaults = true;
}

static void take_fdstore(const struct action *action, const char *value)
{
	const char *error = NULL;

	given.supervisor.fdstore = true;
	given.supervisor.store_max = value ? (int)strtonum(value, 1, INT32_MAX, &error) : 0;
	if (error)
		errx(USAGE, "%s \"%s\" is %s: give what FileDescriptorStoreMax= says", action->name, value, error);
}

static void take_one_at_a_time(const struct action *action, const char *value)
{
	(void)action;
	(void)value;
	given.supervisor.one_at_a_time = true;
}

static void take_ready_http(const struct action *action, const char *value)
{
	char *word = strdup(value);

	if (!word)
		err(FAILED, NULL);
	if (health_parse(word, &given.supervisor.health))
		errx(USAGE,
		     "%s \"%s\": give a path that begins with /, without blanks, and perhaps =STATUS behind it, from "
		     "100 to 599: /health=200",
		     action->name, value);
}

static void take_ready_command(const struct action *action, const char *value)
{
	if (!*value)
		errx(USAGE, "%s is given an empty command", action->name);
	given.supervisor.health.command = value;
}

static void take_generations(const struct action *action, const char *value)
{
	const char *error;
	long long number = strtonum(value, action->least, GENERATIONS_MAX, &error);

	if (error)
		errx(USAGE, "%s \"%s\" is %s: give how many old generations may drain at a time, from %d to %d",
		     action->name, value, error, action->least, (int)GENERATIONS_MAX);
	given.supervisor.generations = (int)number;
}

static void take_rollback(const struct action *action, const char *value)
{
	const char *error;
	long long seconds = strtonum(value, 0, SECONDS_MAX, &error);

	if (error)
		errx(USAGE, "%s \"%s\" is %s: give seconds, from 0 to %d", action->name, value, error,
		     (int)SECONDS_MAX);
	given.supervisor.rollback_s = (int)seconds;
}

static void take_canary(const struct action *action, const char *value)
{
	cleanup_free char *percent = strdup(value);
	char *colon = percent ? strchr(percent, ':') : NULL;
	const char *error, *error_too = NULL;

	if (!percent)
		err(FAILED, NULL);
	if (colon)
		*colon++ = '\0';
	given.supervisor.canary_percent = (int)strtonum(percent, 1, 99, &error);
	given.supervisor.canary_s = colon ? (int)strtonum(colon, 1, SECONDS_MAX, &error_too) : CANARY_DEFAULT;
	if (error || error_too)
		errx(USAGE, "%s \"%s\": give PERCENT or PERCENT:SEC, from 1 to 99, for so many seconds, like 5:60",
		     action->name, value);
}

static void take_watch(const struct action *action, const char *file)
{
	char **longer = reallocarray(given.supervisor.watched, given.supervisor.watched_count + 1, sizeof(*longer));

	if (!longer)
		err(FAILED, NULL);
	given.supervisor.watched = longer;
	longer[given.supervisor.watched_count++] = absolute(action->name, file);
	if (access(longer[given.supervisor.watched_count - 1], F_OK))
		err(FAILED, "%s %s", action->name, file);
}

static void take_crash_limit(const struct action *action, const char *value)
{
	cleanup_free char *count = strdup(value);
	char *slash = count ? strchr(count, '/') : NULL;
	const char *error = "", *error_too = "";
	long long n = 0, seconds = 0;

	if (slash) {
		*slash++ = '\0';
		n = strtonum(count, 0, 1000, &error);
		seconds = strtonum(slash, 1, SECONDS_MAX, &error_too);
	}
	if (error || error_too)
		errx(USAGE,
		     "%s \"%s\": give N/SEC, so often in so many seconds, like 5/60; 0/60 starts no server that "
		     "crashed again",
		     action->name, value);
	given.supervisor.crash_limit = (int)n;
	given.supervisor.crash_window_s = (int)seconds;
}

static void take_running(const struct action *action, const char *value)
{
	const char *error;
	pid_t pid = (pid_t)strtonum(value, 1, INT32_MAX, &error);

	*(action->option == OPT_ATTACH ? &given.attach_pid : &given.adopt_pid) = pid;
	if (error)
		errx(USAGE, "%s \"%s\" is %s: give the PID of a server", action->name, value, error);
	given.handover = true;
}

static void take_dry_run(const struct action *action, const char *value)
{
	(void)action;
	(void)value;
	given.dry_run = true;
}

static void take_resume(const struct action *action, const char *value)
{
	const char *error;

	given.resumed_state = (int)strtonum(value, 0, INT32_MAX, &error);
	if (error)
		errx(USAGE, "%s is for a supervisor's next image", action->name);
}

static const struct action actions[] = {
	{'m', "--mode", VALUE, take_mode, NULL, 0},
	{'k', "--keep", VALUE, take_rule, "keep", 0},
	{'x', "--drop", VALUE, take_rule, "drop", 0},
	{'c', "--carry", VALUE, take_rule, "carry", 0},
	{OPT_NO_CARRY, "--no-carry", BARE, take_rule, "no-carry", 0},
	{'f', "--rules", VALUE, take_rules, NULL, 0},
	{'d', "--drain", VALUE, take_number, SETTINGS_DRAIN, 0},
	{'g', "--grace", VALUE, take_number, SETTINGS_GRACE, 0},
	{'p', "--pidfile", VALUE, take_file, SETTINGS_PIDFILE, 0},
	{'u', "--unlink", VALUE, take_file_too, SETTINGS_UNLINK, 0},
	{'t', "--test", VALUE, take_command, SETTINGS_TEST, 0},
	{OPT_READY_TIMEOUT, "--ready-timeout", VALUE, take_number, SETTINGS_READY_TIMEOUT, 1},
	{OPT_RETIRE_SIGNAL, "--retire-signal", VALUE, take_signal, SETTINGS_RETIRE_SIGNAL, 0},
	{OPT_STOP_TIMEOUT, "--stop-timeout", VALUE | HANDOVER, take_number, SETTINGS_STOP_TIMEOUT, 1},
	{OPT_RESTART_SIGNAL, "--restart-signal", VALUE, take_signal, SETTINGS_RESTART_SIGNAL, 0},
	{OPT_IO_URING, "--io-uring", VALUE, take_io_uring, SETTINGS_IO_URING, 0},
	{OPT_READY_HTTP, "--ready-http", VALUE | HANDOVER, take_ready_http, NULL, 0},
	{OPT_READY_COMMAND, "--ready-command", VALUE | HANDOVER, take_ready_command, NULL, 0},
	{OPT_GRACEFUL_SIGNAL, "--graceful-signal", VALUE | HANDOVER, take_graceful_signal, NULL, 0},
	{OPT_NO_DEFAULTS, "--no-defaults", HANDOVER, take_no_defaults, NULL, 0},
	{OPT_GENERATIONS, "--generations", VALUE | HANDOVER, take_generations, NULL, 1},
	{OPT_WATCH, "--watch", VALUE | HANDOVER, take_watch, NULL, 0},
	{OPT_ROLLBACK, "--rollback", VALUE | HANDOVER, take_rollback, NULL, 0},
	{OPT_CANARY, "--canary", VALUE | HANDOVER, take_canary, NULL, 0},
	{OPT_FDSTORE, "--fdstore", MAYBE | HANDOVER, take_fdstore, NULL, 0},
	{OPT_ONE_AT_A_TIME, "--one-at-a-time", HANDOVER, take_one_at_a_time, NULL, 0},
	{OPT_CRASH_LIMIT, "--crash-limit", VALUE | HANDOVER, take_crash_limit, NULL, 0},
	{'l', "--log", VALUE, take_log, SETTINGS_LOG, 0},
	{OPT_ATTACH, "--attach", VALUE, take_running, NULL, 0},
	{OPT_ADOPT, "--adopt", VALUE, take_running, NULL, 0},
	{OPT_DRY_RUN, "--dry-run", BARE, take_dry_run, NULL, 0},
	{OPT_CHECK, "--check", BARE, NULL, NULL, 0},
	{OPT_RESUME, "--resume", VALUE, take_resume, NULL, 0}, /* a supervisor's, to its next image */
	{'h', "--help", BARE, NULL, NULL, 0},
	{'V', "--version", BARE, NULL, NULL, 0},
};

static void take_option(int option, const char *value)
{
	for (size_t i = 0; i < countof(actions); i++)
		if (actions[i].option == option) {
			if (actions[i].kind & HANDOVER)
				given.handover_option = actions[i].name;
			if (actions[i].take)
				actions[i].take(&actions[i], value);
		}
	switch (option) {
	case OPT_CHECK:
		given.only_check = true;
		break;
	case 'h':
		fputs(usage_text, stdout);
		exit(0);
	case 'V':
		puts("cpr-exec " CPR_VERSION);
		exit(0);
	case '?': /* getopt has said what was wrong */
		fputs("Try 'cpr-exec --help'.\n", stderr);
		exit(USAGE);
	}
}

struct exec_options *exec_options_read(int argc, char **argv)
{
	struct option long_options[countof(actions) + 1] = {0};
	int option;

	for (size_t i = 0; i < countof(actions); i++)
		long_options[i] = (struct option){.name = actions[i].name + strlen("--"),
						  .has_arg = actions[i].kind & (VALUE | MAYBE),
						  .val = actions[i].option};
	while ((option = getopt_long(argc, argv, short_options, long_options, NULL)) != -1)
		take_option(option, optarg);
	given.command = argv + optind;
	if (given.dry_run && !given.attach_pid)
		errx(USAGE, "--dry-run is for --attach");
	if (given.attach_pid && given.adopt_pid)
		errx(USAGE, "--attach is for a server that was started without cpr, --adopt for one that has lost its "
			    "supervisor: give one of them");
	if (given.adopt_pid && *given.command)
		errx(USAGE, "--adopt takes no command (%s): the server tells its own", *given.command);
	return &given;
}
