/* SPDX-License-Identifier: MIT */
/* Starts a program under cpr: says how it is to be served, puts the library in front, and becomes the program. */
#define _GNU_SOURCE
#include "check.h"
#include "defaults.h"
#include "exec_options.h"
#include "launch.h"
#include "model/settings.h"
#include "own.h"
#include "rulebook.h"
#include "supervisor.h"

#include <bsd/stdlib.h>
#include <err.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { DRAIN_DEFAULT = 5, HANDOVER_DRAIN_DEFAULT = 3600, READY_TIMEOUT_DEFAULT = 60, GRACE_DEFAULT = 30 };

static struct exec_options *asked;
static const char *served_as = "can be served"; /* what --check says */

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
	exec_options_set(SETTINGS_PID, pid);
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

	if (!check_filtered(path, why))
		return -ENOTSUP;
	if (!asked->handover) {
		text_format(why, "; it can be %s (--mode=handover)", as);
		return -ENOTSUP;
	}
	if (asked->supervisor.health.path)
		errx(USAGE, "--ready-http: %s shares its listeners with the next generation, and either may answer: "
			    "use --ready-command", path);
	if (asked->supervisor.canary_percent)
		errx(USAGE, "--canary: %s has no gate: it would take clients as it likes", path);
	if (asked->supervisor.rollback_s)
		errx(USAGE, "--rollback: %s has no gate: an old generation cannot be kept", path);
	asked->supervisor.filtered = true;
	served_as = as;
	return 0;
}

static bool grace_is_whole; /* the ready timeout is in it already */

/* What goes only with two generations side by side. */
static void check_one_at_a_time(const char *path, char **argv)
{
	if (!asked->no_defaults && defaults_data(path, argv))
		asked->supervisor.one_at_a_time = true;
	if (!asked->supervisor.one_at_a_time)
		return;
	if (asked->supervisor.filtered)
		errx(USAGE, "--one-at-a-time: %s has no gate, and nothing would keep its clients waiting", path);
	if (asked->supervisor.health.path || asked->supervisor.health.command)
		errx(USAGE, "--ready-%s: with one generation at a time (%s) there is no old one to go back to",
		     asked->supervisor.health.path ? "http" : "command", path);
	if (asked->supervisor.canary_percent)
		errx(USAGE, "--canary: with one generation at a time (%s) no other takes the other clients", path);
	if (asked->supervisor.rollback_s)
		errx(USAGE, "--rollback: with one generation at a time (%s) no old one can be kept", path);
}

static int supervise(const char *path, char **argv)
{
	char digits[16];
	int grace;

	check_one_at_a_time(path, argv);
	prepare(path, !asked->supervisor.filtered);
	asked->supervisor.path = path;
	asked->supervisor.argv = argv;
	asked->supervisor.test = getenv(SETTINGS_TEST);
	asked->supervisor.doorbell = exec_options_doorbell();
	asked->supervisor.drain_s =
		take_setting(SETTINGS_DRAIN, asked->supervisor.one_at_a_time ? DRAIN_DEFAULT : HANDOVER_DRAIN_DEFAULT);
	asked->supervisor.ready_timeout_s = take_setting(SETTINGS_READY_TIMEOUT, READY_TIMEOUT_DEFAULT);
	asked->supervisor.stop_timeout_s = take_setting(SETTINGS_STOP_TIMEOUT, 0);
	grace = take_setting(SETTINGS_GRACE, GRACE_DEFAULT) + (grace_is_whole ? 0 : asked->supervisor.ready_timeout_s);
	snprintf(digits, sizeof(digits), "%d", grace < SECONDS_MAX ? grace : SECONDS_MAX);
	/* it counts from the start, and a generation may be behind its gate for so long */
	exec_options_set(SETTINGS_GRACE, digits);
	asked->supervisor.retire_signal = take_setting(SETTINGS_RETIRE_SIGNAL, SIGTERM);
	asked->supervisor.retire_signal = asked->supervisor.retire_signal ? asked->supervisor.retire_signal : SIGTERM;
	asked->supervisor.restart_signal = take_setting(SETTINGS_RESTART_SIGNAL, 0);
	if (!asked->supervisor.graceful_signal && !asked->no_defaults) {
		asked->supervisor.graceful_signal = defaults_graceful_signal(path, argv);
		asked->supervisor.graceful_is_known = true;
	}
	if (!asked->no_defaults) {
		snprintf(digits, sizeof(digits), "%d", defaults_replace_signal(path, argv));
		exec_options_set(SETTINGS_REPLACE_SIGNAL, digits);
	}
	unsetenv(SETTINGS_PIDFILE); /* it is ours */
	return supervisor_run(&asked->supervisor);
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
	int r = attach_read(&a, asked->attach_pid, command, &why);

	if (!r)
		r = attach_follow(&a, &why);
	if (!r)
		r = find_attached(&a, command, path, &why);
	if (!r && asked->dry_run)
		r = holdings_begin(&seen);
	if (!r && asked->dry_run && attach_take(&a, &seen, &why) < 0)
		r = -ENOENT;
	if (r) {
		warnx("%s", *reason ? reason : strerror(-r));
		return FAILED;
	}
	if (asked->dry_run) {
		attach_show(&a, path, &seen);
		return 0;
	}
	asked->supervisor.attach = &a;
	return supervise(path, a.argv);
}

/* By the path that it was started by; its settings, where this command line does not give others. */
static int adopt(void)
{
	static struct adopt a;
	char reason[4 * PATH_MAX];
	struct text why = TEXT_ON(reason);
	bool with_grace = getenv(SETTINGS_GRACE);

	if (!adopt_take(&a, asked->adopt_pid, &why) || !adopt_follow(&a, &why)) {
		warnx("%s", reason);
		return FAILED;
	}
	grace_is_whole = !with_grace && getenv(SETTINGS_GRACE);
	asked->supervisor.adopt = &a;
	return supervise(a.start.given.path, a.start.given.argv);
}

static int check(const char *path, int r)
{
	if (!r && check_shell_stays(path, asked->command))
		printf("%s: a restart would be of the shell, and not of what it starts, and is refused while that "
		       "runs: write exec before the server's command\n",
		       path);
	if (!r)
		printf("%s%s %s\n", path, asked->supervisor.filtered ? ":" : "", served_as);
	return r ? FAILED : 0;
}

static int start_command(void)
{
	char path[PATH_MAX], reason[4 * PATH_MAX];
	struct text why = TEXT_ON(reason);
	int r;

	if (!*asked->command) {
		warnx("which command is to be %s?\nTry 'cpr-exec --help'.", asked->only_check ? "checked" : "started");
		return USAGE;
	}
	if (asked->handover_option && !asked->handover)
		errx(USAGE, "%s is for handover mode: add --mode=handover", asked->handover_option);
	r = check_find(*asked->command, path, &why);
	if (!r)
		r = check_served(path, &why);
	if (r == -ENOTSUP)
		r = try_filter(path, &why);
	if (r)
		warnx("%s", reason);
	if (asked->only_check)
		return check(path, r);
	if (r)
		return r == -ENOENT ? NOT_FOUND : NOT_EXECUTABLE;
	return asked->handover ? supervise(path, asked->command) : start(path, asked->command);
}

int main(int argc, char **argv)
{
	if (argc)
		argv[0] = program_invocation_short_name; /* getopt's messages begin with it */
	asked = exec_options_read(argc, argv);
	if (asked->resumed_state >= 0)
		return supervisor_resume(asked->resumed_state, asked->command, asked->only_check);
	if (asked->adopt_pid)
		return adopt();
	if (asked->attach_pid)
		return attach(*asked->command ? asked->command : NULL);
	return start_command();
}
