/* SPDX-License-Identifier: MIT */
/* Starts a program under cpr: says how it is to be served, puts the library in front, and becomes the program. */
#define _GNU_SOURCE
#include "base/log.h"
#include "check.h"
#include "defaults.h"
#include "launch.h"
#include "model/protocol.h"
#include "model/settings.h"
#include "own.h"
#include "rulebook.h"
#include "signame.h"
#include "supervisor.h"

#include <bsd/stdlib.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { FAILED = 1, USAGE = 2, NOT_EXECUTABLE = 126, NOT_FOUND = 127 };
enum {
	SECONDS_MAX = 86400,
	GENERATIONS_MAX = 100,
	DRAIN_DEFAULT = 5,
	HANDOVER_DRAIN_DEFAULT = 3600,
	READY_TIMEOUT_DEFAULT = 60,
	GRACE_DEFAULT = 30,
	CANARY_DEFAULT = 30,
};

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
	"                            handover: how long the old one goes on with what it has (3600; 5 with\n"
	"                            --one-at-a-time)\n"
	"  -g, --grace=SEC           when a descriptor that nobody asked for again is closed (30)\n"
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
	"      --graceful-signal=SIG tells an old one to end what it has (by the program's name, or none)\n"
	"      --one-at-a-time       the old generation ends before the next one starts, and clients wait:\n"
	"                            for a server that keeps data of its own (by the program's name, or not)\n"
	"      --no-defaults         takes nothing by the program's name\n"
	"      --generations=N       so many old generations may drain at a time (3)\n"
	"      --rollback=SEC        the old one is kept so long, for `cprctl rollback` or when the new one dies (0)\n"
	"      --canary=PERCENT[:SEC]\n"
	"                            for SEC seconds (30) the new one takes a share of the clients only\n"
	"      --watch=FILE          a change of FILE restarts the program, half a second later\n"
	"      --fdstore             `systemctl restart` loses nothing: listeners and idle connections\n"
	"                            wait in the service manager's descriptor store\n"
	"      --crash-limit=N/SEC   so often is a server that crashes started again (5/60)\n"
	"      --attach=PID          starts what runs as PID, without cpr, anew with its listeners, and tells\n"
	"                            it to leave when the new one serves; --dry-run only shows\n"
	"      --adopt=PID           becomes the supervisor of the server PID, whose own was killed\n"
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
};

/* +: the first word that is no option is the command */
static const char short_options[] = "+m:k:x:c:f:d:g:p:u:t:l:hV";

static const struct option long_options[] = {
	{"mode", required_argument, NULL, 'm'},
	{"keep", required_argument, NULL, 'k'},
	{"drop", required_argument, NULL, 'x'},
	{"carry", required_argument, NULL, 'c'},
	{"no-carry", no_argument, NULL, OPT_NO_CARRY},
	{"rules", required_argument, NULL, 'f'},
	{"drain", required_argument, NULL, 'd'},
	{"grace", required_argument, NULL, 'g'},
	{"pidfile", required_argument, NULL, 'p'},
	{"unlink", required_argument, NULL, 'u'},
	{"test", required_argument, NULL, 't'},
	{"ready-timeout", required_argument, NULL, OPT_READY_TIMEOUT},
	{"retire-signal", required_argument, NULL, OPT_RETIRE_SIGNAL},
	{"restart-signal", required_argument, NULL, OPT_RESTART_SIGNAL},
	{"io-uring", required_argument, NULL, OPT_IO_URING},
	{"ready-http", required_argument, NULL, OPT_READY_HTTP},
	{"ready-command", required_argument, NULL, OPT_READY_COMMAND},
	{"graceful-signal", required_argument, NULL, OPT_GRACEFUL_SIGNAL},
	{"no-defaults", no_argument, NULL, OPT_NO_DEFAULTS},
	{"generations", required_argument, NULL, OPT_GENERATIONS},
	{"watch", required_argument, NULL, OPT_WATCH},
	{"rollback", required_argument, NULL, OPT_ROLLBACK},
	{"canary", required_argument, NULL, OPT_CANARY},
	{"fdstore", no_argument, NULL, OPT_FDSTORE},
	{"one-at-a-time", no_argument, NULL, OPT_ONE_AT_A_TIME},
	{"crash-limit", required_argument, NULL, OPT_CRASH_LIMIT},
	{"log", required_argument, NULL, 'l'},
	{"attach", required_argument, NULL, OPT_ATTACH},
	{"adopt", required_argument, NULL, OPT_ADOPT},
	{"dry-run", no_argument, NULL, OPT_DRY_RUN},
	{"check", no_argument, NULL, OPT_CHECK},
	{"resume", required_argument, NULL, OPT_RESUME}, /* a supervisor's, to its next image */
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0},
};

/* What an option does: `word` is the setting that it makes, or the rule. */
struct action {
	int option;
	void (*take)(const struct action *action, const char *value);
	const char *name;
	const char *word;
	int least;
};

/* Handover mode, if it was asked for, and which of its own options was given. */
static bool handover;
static const char *handover_option;
static struct supervisor_options supervisor = {.generations = 3, .crash_limit = 5, .crash_window_s = 60};
static bool no_defaults;
static pid_t attach_pid, adopt_pid;
static bool dry_run;
static int resumed_state = -1;
static const char *served_as = "can be served"; /* what --check says */

static void set(const char *name, const char *value)
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
	handover = !strcmp(mode, "handover");
	if (!handover && strcmp(mode, "exec"))
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
	set(action->word, digits);
}

static void take_file(const struct action *action, const char *file)
{
	cleanup_free char *path = absolute(action->name, file);

	set(action->word, path);
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
	set(action->word, list);
}

static void take_command(const struct action *action, const char *command)
{
	if (!*command)
		errx(USAGE, "%s is given an empty command", action->name);
	set(action->word, command);
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
	set(action->word, setting);
}

static int doorbell(void)
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
	if (signo == doorbell())
		errx(USAGE, "%s %s: that is the signal that cprctl rings with (%s changes it)", action->name, value,
		     SETTINGS_SIGNAL);
	return signo;
}

static void take_signal(const struct action *action, const char *value)
{
	char digits[16];

	snprintf(digits, sizeof(digits), "%d", parse_signal(action, value));
	set(action->word, digits);
}

static void take_io_uring(const struct action *action, const char *value)
{
	if (strcmp(value, "deny") && strcmp(value, "allow"))
		errx(USAGE, "%s \"%s\": give deny or allow", action->name, value);
	set(action->word, value);
}

static void take_graceful_signal(const struct action *action, const char *value)
{
	handover_option = action->name;
	supervisor.graceful_signal = parse_signal(action, value);
}

static void take_no_defaults(const struct action *action, const char *value)
{
	(void)value;
	handover_option = action->name;
	no_defaults = true;
}

static void take_fdstore(const struct action *action, const char *value)
{
	(void)value;
	handover_option = action->name;
	supervisor.fdstore = true;
}

static void take_one_at_a_time(const struct action *action, const char *value)
{
	(void)value;
	handover_option = action->name;
	supervisor.one_at_a_time = true;
}

static void take_ready_http(const struct action *action, const char *value)
{
	char *word = strdup(value);

	handover_option = action->name;
	if (!word)
		err(FAILED, NULL);
	if (health_parse(word, &supervisor.health))
		errx(USAGE,
		     "%s \"%s\": give a path that begins with /, without blanks, and perhaps =STATUS behind it, from "
		     "100 to 599: /health=200",
		     action->name, value);
}

static void take_ready_command(const struct action *action, const char *value)
{
	handover_option = action->name;
	if (!*value)
		errx(USAGE, "%s is given an empty command", action->name);
	supervisor.health.command = value;
}

static void take_generations(const struct action *action, const char *value)
{
	const char *error;
	long long number = strtonum(value, action->least, GENERATIONS_MAX, &error);

	handover_option = action->name;
	if (error)
		errx(USAGE, "%s \"%s\" is %s: give how many old generations may drain at a time, from %d to %d",
		     action->name, value, error, action->least, (int)GENERATIONS_MAX);
	supervisor.generations = (int)number;
}

static void take_rollback(const struct action *action, const char *value)
{
	const char *error;
	long long seconds = strtonum(value, 0, SECONDS_MAX, &error);

	handover_option = action->name;
	if (error)
		errx(USAGE, "%s \"%s\" is %s: give seconds, from 0 to %d", action->name, value, error,
		     (int)SECONDS_MAX);
	supervisor.rollback_s = (int)seconds;
}

static void take_canary(const struct action *action, const char *value)
{
	cleanup_free char *percent = strdup(value);
	char *colon = percent ? strchr(percent, ':') : NULL;
	const char *error, *error_too = NULL;

	handover_option = action->name;
	if (!percent)
		err(FAILED, NULL);
	if (colon)
		*colon++ = '\0';
	supervisor.canary_percent = (int)strtonum(percent, 1, 99, &error);
	supervisor.canary_s = colon ? (int)strtonum(colon, 1, SECONDS_MAX, &error_too) : CANARY_DEFAULT;
	if (error || error_too)
		errx(USAGE, "%s \"%s\": give PERCENT or PERCENT:SEC, from 1 to 99, for so many seconds, like 5:60",
		     action->name, value);
}

static void take_watch(const struct action *action, const char *file)
{
	char **longer = reallocarray(supervisor.watched, supervisor.watched_count + 1, sizeof(*longer));

	handover_option = action->name;
	if (!longer)
		err(FAILED, NULL);
	supervisor.watched = longer;
	longer[supervisor.watched_count++] = absolute(action->name, file);
	if (access(longer[supervisor.watched_count - 1], F_OK))
		err(FAILED, "%s %s", action->name, file);
}

static void take_crash_limit(const struct action *action, const char *value)
{
	cleanup_free char *count = strdup(value);
	char *slash = count ? strchr(count, '/') : NULL;
	const char *error = "", *error_too = "";
	long long n = 0, seconds = 0;

	handover_option = action->name;
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
	supervisor.crash_limit = (int)n;
	supervisor.crash_window_s = (int)seconds;
}

static void take_running(const struct action *action, const char *value)
{
	const char *error;
	pid_t pid = (pid_t)strtonum(value, 1, INT32_MAX, &error);

	*(action->option == OPT_ATTACH ? &attach_pid : &adopt_pid) = pid;
	if (error)
		errx(USAGE, "%s \"%s\" is %s: give the PID of a server", action->name, value, error);
	handover = true;
}

static void take_dry_run(const struct action *action, const char *value)
{
	(void)action;
	(void)value;
	dry_run = true;
}

static void take_resume(const struct action *action, const char *value)
{
	const char *error;

	resumed_state = (int)strtonum(value, 0, INT32_MAX, &error);
	if (error)
		errx(USAGE, "%s is for a supervisor's next image", action->name);
}

static const struct action actions[] = {
	{'m', take_mode, "--mode", NULL, 0},
	{'k', take_rule, "--keep", "keep", 0},
	{'x', take_rule, "--drop", "drop", 0},
	{'c', take_rule, "--carry", "carry", 0},
	{OPT_NO_CARRY, take_rule, "--no-carry", "no-carry", 0},
	{'f', take_rules, "--rules", NULL, 0},
	{'d', take_number, "--drain", SETTINGS_DRAIN, 0},
	{'g', take_number, "--grace", SETTINGS_GRACE, 0},
	{'p', take_file, "--pidfile", SETTINGS_PIDFILE, 0},
	{'u', take_file_too, "--unlink", SETTINGS_UNLINK, 0},
	{'t', take_command, "--test", SETTINGS_TEST, 0},
	{OPT_READY_TIMEOUT, take_number, "--ready-timeout", SETTINGS_READY_TIMEOUT, 1},
	{OPT_RETIRE_SIGNAL, take_signal, "--retire-signal", SETTINGS_RETIRE_SIGNAL, 0},
	{OPT_RESTART_SIGNAL, take_signal, "--restart-signal", SETTINGS_RESTART_SIGNAL, 0},
	{OPT_IO_URING, take_io_uring, "--io-uring", SETTINGS_IO_URING, 0},
	{OPT_READY_HTTP, take_ready_http, "--ready-http", NULL, 0},
	{OPT_READY_COMMAND, take_ready_command, "--ready-command", NULL, 0},
	{OPT_GRACEFUL_SIGNAL, take_graceful_signal, "--graceful-signal", NULL, 0},
	{OPT_NO_DEFAULTS, take_no_defaults, "--no-defaults", NULL, 0},
	{OPT_GENERATIONS, take_generations, "--generations", NULL, 1},
	{OPT_ROLLBACK, take_rollback, "--rollback", NULL, 0},
	{OPT_CANARY, take_canary, "--canary", NULL, 0},
	{OPT_WATCH, take_watch, "--watch", NULL, 0},
	{OPT_ATTACH, take_running, "--attach", NULL, 0},
	{OPT_ADOPT, take_running, "--adopt", NULL, 0},
	{OPT_DRY_RUN, take_dry_run, "--dry-run", NULL, 0},
	{OPT_FDSTORE, take_fdstore, "--fdstore", NULL, 0},
	{OPT_RESUME, take_resume, "--resume", NULL, 0},
	{OPT_ONE_AT_A_TIME, take_one_at_a_time, "--one-at-a-time", NULL, 0},
	{OPT_CRASH_LIMIT, take_crash_limit, "--crash-limit", NULL, 0},
	{'l', take_log, "--log", SETTINGS_LOG, 0},
};

static void take_option(int option, const char *value, bool *only_check)
{
	for (size_t i = 0; i < countof(actions); i++)
		if (actions[i].option == option)
			actions[i].take(&actions[i], value);
	switch (option) {
	case OPT_CHECK:
		*only_check = true;
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

/* All that the program's environment must say; the pid file too. Ends this program if it cannot be. */
static void prepare(const char *program, bool preloads)
{
	char library[PATH_MAX], reason[2 * PATH_MAX];
	struct text why = TEXT_ON(reason);
	const char *pidfile = getenv(SETTINGS_PIDFILE);
	pid_t other = 0;
	char pid[16];
	int r;

	if (preloads && launch_library(library, &why))
		errx(FAILED, "%s", reason);
	r = preloads ? launch_preload(library, program) : 0;
	if (r || (rulebook_text() && setenv(SETTINGS_RULES, rulebook_text(), 1)))
		errx(FAILED, "out of memory");
	unsetenv(SETTINGS_STATE_FD); /* only ever from one generation to the next */
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	set(SETTINGS_PID, pid);
	r = pidfile && *pidfile ? launch_pidfile(pidfile, &other) : 0;
	if (r == -EEXIST && other > 0)
		errx(FAILED, "already running as PID %d, says %s", (int)other, pidfile);
	if (r == -EEXIST)
		errx(FAILED, "already running: %s is locked by another process", pidfile);
	if (r)
		errx(FAILED, "--pidfile %s: %s", pidfile, strerror(-r));
}

static int start(const char *path, char **argv)
{
	int error;

	prepare(path, true);
	execv(path, argv);
	error = errno;
	launch_pidfile_remove();
	warnx("%s: %s", path, strerror(error));
	return error == ENOENT ? NOT_FOUND : NOT_EXECUTABLE;
}

/* A setting that is the supervisor's, and not the server's: taken out of the environment. */
static int take_setting(const char *name, int fallback)
{
	const char *value = getenv(name), *error;
	long long number = value && *value ? strtonum(value, 0, SECONDS_MAX, &error) : fallback;

	if (value && *value && error)
		errx(USAGE, "%s=%s is %s: it is a number, at most %d", name, value, error, (int)SECONDS_MAX);
	unsetenv(name);
	return (int)number;
}

/* Nothing can be preloaded: is there the other way? */
static int try_filter(const char *path, struct text *why)
{
	static const char as[] = "served in handover mode: nothing refused, nothing cut, idle connections are not "
				 "carried";

	if (!check_filtered(path))
		return -ENOTSUP;
	if (!handover) {
		text_format(why, "; it can be %s (--mode=handover)", as);
		return -ENOTSUP;
	}
	if (supervisor.health.path)
		errx(USAGE, "--ready-http: %s shares its listeners with the next generation, and either may answer: "
			    "use --ready-command", path);
	if (supervisor.canary_percent)
		errx(USAGE, "--canary: %s has no gate: it would take clients as it likes", path);
	if (supervisor.rollback_s)
		errx(USAGE, "--rollback: %s has no gate: an old generation cannot be kept", path);
	supervisor.filtered = true;
	served_as = as;
	return 0;
}

static bool grace_is_whole; /* the ready timeout is in it already */

/* What goes only with two generations side by side. */
static void check_one_at_a_time(const char *path, char **argv)
{
	if (!no_defaults && defaults_data(path, argv))
		supervisor.one_at_a_time = true;
	if (!supervisor.one_at_a_time)
		return;
	if (supervisor.filtered)
		errx(USAGE, "--one-at-a-time: %s has no gate, and nothing would keep its clients waiting", path);
	if (supervisor.health.path || supervisor.health.command)
		errx(USAGE, "--ready-%s: with one generation at a time (%s) there is no old one to go back to",
		     supervisor.health.path ? "http" : "command", path);
	if (supervisor.canary_percent)
		errx(USAGE, "--canary: with one generation at a time (%s) no other takes the other clients", path);
	if (supervisor.rollback_s)
		errx(USAGE, "--rollback: with one generation at a time (%s) no old one can be kept", path);
}

static int supervise(const char *path, char **argv)
{
	char digits[16];
	int grace;

	check_one_at_a_time(path, argv);
	prepare(path, !supervisor.filtered);
	supervisor.path = path;
	supervisor.argv = argv;
	supervisor.test = getenv(SETTINGS_TEST);
	supervisor.doorbell = doorbell();
	supervisor.drain_s =
		take_setting(SETTINGS_DRAIN, supervisor.one_at_a_time ? DRAIN_DEFAULT : HANDOVER_DRAIN_DEFAULT);
	supervisor.ready_timeout_s = take_setting(SETTINGS_READY_TIMEOUT, READY_TIMEOUT_DEFAULT);
	grace = take_setting(SETTINGS_GRACE, GRACE_DEFAULT) + (grace_is_whole ? 0 : supervisor.ready_timeout_s);
	snprintf(digits, sizeof(digits), "%d", grace < SECONDS_MAX ? grace : SECONDS_MAX);
	set(SETTINGS_GRACE, digits); /* it counts from the start, and a generation may be behind its gate for so long */
	supervisor.retire_signal = take_setting(SETTINGS_RETIRE_SIGNAL, SIGTERM);
	supervisor.retire_signal = supervisor.retire_signal ? supervisor.retire_signal : SIGTERM;
	supervisor.restart_signal = take_setting(SETTINGS_RESTART_SIGNAL, 0);
	if (!supervisor.graceful_signal && !no_defaults)
		supervisor.graceful_signal = defaults_graceful_signal(path, argv);
	if (!no_defaults) {
		snprintf(digits, sizeof(digits), "%d", defaults_replace_signal(path, argv));
		set(SETTINGS_REPLACE_SIGNAL, digits);
	}
	unsetenv(SETTINGS_PIDFILE); /* it is ours */
	return supervisor_run(&supervisor);
}

/* By the name that it was started by, if that leads to the program still; else what runs. */
static int find_attached(const struct attach *a, bool given, char path[PATH_MAX], struct text *why)
{
	int r = check_find(given || *a->argv[0] == '/' ? a->argv[0] : a->exe, path, why);

	if (!r)
		r = check_served(path, why);
	if (r == -ENOTSUP)
		r = try_filter(path, why);
	if (!r && check_shell_stays(path, a->argv)) {
		text_format(why, "PID %d is a shell: attach the server that it has started", (int)a->pid);
		r = -ENOTSUP;
	}
	return r;
}

static int attach(char **command)
{
	static struct attach a;
	static char path[PATH_MAX];
	char reason[4 * PATH_MAX];
	struct text why = TEXT_ON(reason);
	struct holdings seen;
	int r = attach_read(&a, attach_pid, command, &why);

	if (!r)
		r = attach_follow(&a, &why);
	if (!r)
		r = find_attached(&a, command, path, &why);
	if (!r && dry_run)
		r = holdings_begin(&seen);
	if (!r && dry_run && attach_take(&a, &seen, &why) < 0)
		r = -ENOENT;
	if (r) {
		warnx("%s", *reason ? reason : strerror(-r));
		return FAILED;
	}
	if (dry_run) {
		attach_show(&a, path, &seen);
		return 0;
	}
	supervisor.attach = &a;
	return supervise(path, a.argv);
}

/* By the path that it was started by; its settings, where this command line does not give others. */
static int adopt(const char *command)
{
	static struct adopt a;
	char reason[4 * PATH_MAX];
	struct text why = TEXT_ON(reason);
	bool with_grace = getenv(SETTINGS_GRACE);

	if (command)
		errx(USAGE, "--adopt takes no command (%s): the server tells its own", command);
	if (!adopt_take(&a, adopt_pid, &why) || !adopt_follow(&a, &why)) {
		warnx("%s", reason);
		return FAILED;
	}
	grace_is_whole = !with_grace && getenv(SETTINGS_GRACE);
	supervisor.adopt = &a;
	return supervise(a.start.given.path, a.start.given.argv);
}

int main(int argc, char **argv)
{
	char path[PATH_MAX], reason[4 * PATH_MAX];
	struct text why = TEXT_ON(reason);
	bool only_check = false;
	int option, r;

	if (argc)
		argv[0] = program_invocation_short_name; /* getopt's messages begin with it */
	while ((option = getopt_long(argc, argv, short_options, long_options, NULL)) != -1)
		take_option(option, optarg, &only_check);
	if (dry_run && !attach_pid)
		errx(USAGE, "--dry-run is for --attach");
	if (resumed_state >= 0)
		return supervisor_resume(resumed_state, argv + optind, only_check);
	if (attach_pid && adopt_pid)
		errx(USAGE, "--attach is for a server that was started without cpr, --adopt for one that has lost its "
			    "supervisor: give one of them");
	if (adopt_pid)
		return adopt(optind < argc ? argv[optind] : NULL);
	if (attach_pid)
		return attach(optind < argc ? argv + optind : NULL);
	if (optind >= argc) {
		warnx("which command is to be %s?\nTry 'cpr-exec --help'.", only_check ? "checked" : "started");
		return USAGE;
	}
	if (handover_option && !handover)
		errx(USAGE, "%s is for handover mode: add --mode=handover", handover_option);
	r = check_find(argv[optind], path, &why);
	if (!r)
		r = check_served(path, &why);
	if (r == -ENOTSUP)
		r = try_filter(path, &why);
	if (r)
		warnx("%s", reason);
	if (only_check && !r && check_shell_stays(path, argv + optind))
		printf("%s: a restart would be of the shell, and not of what it starts, and is refused while that "
		       "runs: write exec before the server's command\n",
		       path);
	if (only_check && !r)
		printf("%s%s %s\n", path, supervisor.filtered ? ":" : "", served_as);
	if (only_check)
		return r ? FAILED : 0;
	if (r)
		return r == -ENOENT ? NOT_FOUND : NOT_EXECUTABLE;
	return handover ? supervise(path, argv + optind) : start(path, argv + optind);
}
