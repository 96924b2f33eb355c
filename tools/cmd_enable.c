/* SPDX-License-Identifier: MIT */
/* cprctl enable and disable: the drop-in that puts a service of systemd under cpr. */
#define _GNU_SOURCE
#include "cmd.h"

#include "base/attr.h"
#include "base/io.h"
#include "fitness.h"
#include "json.h"
#include "launch.h"
#include "manager.h"
#include "own.h"
#include "unit_name.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNITS "/etc/systemd/system"
#define DROP_IN "50-cpr.conf"
#define MARK "# Written by `cprctl enable "

static const char enable_usage[] =
	"Usage: cprctl enable [--dry-run] [--now] [--json] UNIT...\n"
	"Puts services of systemd under cpr: from their next start on, `systemctl reload` and `systemctl restart` lose "
	"no request.\n"
	"Writes " UNITS "/UNIT.d/" DROP_IN ", made from what the unit says, and shows it.\n"
	"  --dry-run      only shows it\n"
	"  --now          restarts the service too, in the ordinary way for this once, and reloads it, as a proof:\n"
	"                 if it does not stand that, nothing stays written, and it runs as before\n"
	"  --json         says what it did in JSON\n"
	"Exit status: 0 done, or it was so already; 1 a unit cannot be served, or failed; 2 usage.\n";

static const char disable_usage[] = "Usage: cprctl disable [--now] [--json] UNIT...\n"
				    "Removes what `cprctl enable` wrote. The service is cpr's until its next start.\n"
				    "  --now          restarts it, which is an ordinary restart\n"
				    "  --json         says what it did in JSON\n"
				    "Exit status: 0 done, or it was not enabled; 1 failed; 2 usage.\n";

enum { TEXT_SIZE = 16384, REASON_SIZE = 1024 };

struct ours {
	char exec[PATH_MAX], ctl[PATH_MAX], library[PATH_MAX];
};

struct wish {
	bool dry_run, now, as_json;
	struct ours ours;
	struct json json;
};

struct place {
	char directory[PATH_MAX], file[PATH_MAX];
};

/* ---- words and paths ---- */

static bool place_of(const char *id, struct place *place, struct text *why)
{
	struct text directory = TEXT_ON(place->directory), file = TEXT_ON(place->file);

	text_format(&directory, UNITS "/%s.d", id);
	text_format(&file, "%s/" DROP_IN, place->directory);
	if (file.cut)
		text_add(why, "its name is too long");
	return !file.cut;
}

/* Where this cprctl stands, there is cpr-exec. */
static bool find_ours(struct ours *ours, struct text *why)
{
	char directory[PATH_MAX];
	struct text exec = TEXT_ON(ours->exec), ctl = TEXT_ON(ours->ctl);

	if (launch_directory(directory, sizeof(directory))) {
		text_add(why, "/proc/self/exe cannot be read");
		return false;
	}
	text_format(&exec, "%s/cpr-exec", directory);
	text_format(&ctl, "%s/cprctl", directory);
	if (access(ours->exec, X_OK)) {
		text_format(why, "there is no %s: install it beside cprctl", ours->exec);
		return false;
	}
	if (strpbrk(directory, " \t\n\"'\\$%;")) {
		text_format(why, "\"%s\" has characters that a unit would need quoted: install cpr elsewhere",
			    directory);
		return false;
	}
	return !launch_library(ours->library, why);
}

/* One unit, in JSON; what is not known is NULL. */
static void tell_json(struct json *json, const char *unit, const char *state, const char *file, const char *text,
		      const char *reason)
{
	json_object(json, NULL);
	json_string(json, "unit", unit);
	json_string(json, "state", state);
	if (file)
		json_string(json, "file", file);
	if (text)
		json_string(json, "text", text);
	if (reason && *reason)
		json_string(json, "reason", reason);
	json_end(json, '}');
}

/* ---- what the manager knows ---- */

struct known {
	char *shown, *cat;
	struct unit unit;
	struct place place;
	char before[TEXT_SIZE]; /* what an earlier enable had written; empty: nothing */
};

static void forget(struct known *known)
{
	free(known->shown);
	free(known->cat);
}

static bool ask_properties(const char *name, struct known *known, struct text *why)
{
	static char keys[] = "Id,LoadState,FragmentPath,DropInPaths,ActiveState,MainPID";
	char *const argv[] = {"systemctl", "show", "-p", keys, "--", (char *)name, NULL};

	if (manager_ask(argv, &known->shown, why))
		return false;
	unit_read_properties(&known->unit, known->shown);
	if (!known->unit.id || !*known->unit.id)
		known->unit.id = name;
	return place_of(known->unit.id, &known->place, why);
}

static bool ask_files(struct known *known, struct text *why)
{
	char *const argv[] = {"systemctl", "cat", "--", (char *)known->unit.id, NULL};

	if (!known->unit.load_state || strcmp(known->unit.load_state, "loaded"))
		return true; /* there are none: unit_may_enable says so */
	if (manager_ask(argv, &known->cat, why))
		return false;
	unit_read_files(&known->unit, known->cat, known->place.file);
	return true;
}

/* ---- the file ---- */

static bool holds(const char *path, const char *text)
{
	char had[TEXT_SIZE];

	return io_read_file(path, had, sizeof(had)) >= 0 && !strcmp(had, text);
}

static void say_failed(const char *path, const char *what, int error, struct text *why)
{
	text_format(why, "%s cannot be %s: %s%s", path, what, strerror(error),
		    error == EACCES || error == EPERM ? ": it takes root" : "");
}

/* Another's file of that name is left alone. */
static bool is_ours(const char *path, struct text *why)
{
	char had[TEXT_SIZE];
	ssize_t n = io_read_file(path, had, sizeof(had));

	if (n == -ENOENT || (n >= 0 && !strncmp(had, MARK, strlen(MARK))))
		return true;
	if (n < 0)
		say_failed(path, "read", (int)-n, why);
	else
		text_format(why, "%s was not written by cprctl: it is left alone", path);
	return false;
}

static int write_new(const char *path, const char *text)
{
	cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	int r = fd < 0 ? -errno : io_write_all(fd, text, strlen(text));

	if (!r && (fchmod(fd, 0644) || fsync(fd)))
		r = -errno;
	return r;
}

static bool write_drop_in(const struct place *place, const char *text, struct text *why)
{
	char temporary[PATH_MAX];
	struct text t = TEXT_ON(temporary);
	int r = 0;

	text_format(&t, "%s.new", place->file); /* the manager reads names that end with .conf only */
	if (mkdir(place->directory, 0755) && errno != EEXIST)
		r = -errno;
	if (!r)
		r = write_new(temporary, text);
	if (!r && rename(temporary, place->file))
		r = -errno;
	if (!r)
		return true;
	unlink(temporary);
	rmdir(place->directory); /* if it is ours, it is empty */
	say_failed(place->file, "written", -r, why);
	return false;
}

static bool reload_manager(struct text *why)
{
	char *const argv[] = {"systemctl", "daemon-reload", NULL};

	return !manager_ask(argv, NULL, why);
}

/* `systemctl VERB UNIT` */
static bool order(const char *verb, const char *id, struct text *why)
{
	char *const argv[] = {"systemctl", (char *)verb, "--", (char *)id, NULL};

	return !manager_ask(argv, NULL, why);
}

static bool restart_now(const char *id, struct text *why)
{
	if (order("restart", id, why))
		return true;
	text_format(why, "; `journalctl -u %s` says more", id);
	return false;
}

/* ---- enable ---- */

static bool runs(const struct unit *unit)
{
	return unit->active_state && strcmp(unit->active_state, "inactive") && strcmp(unit->active_state, "failed");
}

/* Is the main process of this service a supervisor? Of the tools that an upgrade has replaced, too. */
static bool runs_under_cpr(const struct unit *unit)
{
	char path[64], exe[PATH_MAX];
	struct text t = TEXT_ON(path);
	const char *name;
	ssize_t n;

	if (!runs(unit) || !unit->main_pid)
		return false;
	text_format(&t, "/proc/%s/exe", unit->main_pid);
	n = readlink(path, exe, sizeof(exe) - 1);
	exe[n > 0 ? n : 0] = '\0';
	name = strrchr(exe, '/');
	return name && (!strcmp(name, "/cpr-exec") || !strcmp(name, "/cpr-exec (deleted)"));
}

/* What the user would not expect: until its next start the service runs without cpr, and has the reload of cpr. */
static void tell_when(const struct wish *wish, const struct known *known)
{
	const char *id = known->unit.id;

	if (wish->as_json || wish->dry_run || wish->now)
		return;
	fflush(stdout);
	if (!runs(&known->unit))
		warnx("%s: it does not run: its next start is under cpr", id);
	else if (!runs_under_cpr(&known->unit))
		warnx("%s: it runs without cpr until its next start, and cannot be reloaded until then: `systemctl "
		      "restart %s`",
		      id, id);
}

static void tell(struct wish *wish, const struct known *known, bool had, const char *text, const char *note)
{
	const char *state = had ? "already enabled" : wish->dry_run ? "not written" : "enabled";

	if (wish->as_json)
		tell_json(&wish->json, known->unit.id, state, known->place.file, text, note);
	else if (had)
		printf("%s: already enabled\n", known->unit.id);
	else
		printf("# %s\n%s", known->place.file, text);
}

/* As it was: the next try is to be no "already enabled", and what an earlier version had enabled stays so. */
static bool take_away(const struct known *known, struct text *why)
{
	if (*known->before)
		return write_drop_in(&known->place, known->before, why);
	if (unlink(known->place.file) && errno != ENOENT) {
		say_failed(known->place.file, "removed", errno, why);
		return false;
	}
	rmdir(known->place.directory); /* unless there are others in it */
	return true;
}

static bool put_in_place(const struct known *known, const char *text, struct text *why)
{
	if (!write_drop_in(&known->place, text, why))
		return false;
	if (reload_manager(why))
		return true;
	take_away(known, why);
	return false;
}

/* A unit can be what no file shows: a server that locks its data, a sandbox. So --now proves it, by a restart and a
 * reload, and a service that does not stand them is started as it was. */
static bool prove(const struct known *known, const char *ctl, bool had, struct text *why)
{
	char *const reload[] = {(char *)ctl, "restart", "--", (char *)known->unit.id, NULL}; /* which says its reason */
	char scratch[REASON_SIZE];
	const char *id = known->unit.id;
	bool ran = runs(&known->unit);
	struct text ignored = TEXT_ON(scratch);

	if (restart_now(id, why) && (had || !manager_ask(reload, NULL, why)))
		return true;
	if (had)
		return false;
	if (!take_away(known, &ignored) || !reload_manager(&ignored)) {
		text_format(why, ": and it could not be taken back: %s: try `cprctl disable %s`", scratch, id);
		return false;
	}
	order("reset-failed", id, &ignored); /* what failed counts towards its limit of starts */
	if (order(ran ? "restart" : "stop", id, &ignored))
		text_format(why, ": it is %s, and %s", *known->before ? "enabled as before" : "not enabled",
			    ran ? "runs as before" : "not running, as before");
	else
		text_format(why, ": it is %s, and cannot be started as it was either",
			    *known->before ? "enabled as before" : "not enabled");
	return false;
}

static bool enable(const char *word, struct wish *wish, struct text *why)
{
	char name[UNIT_NAME_SIZE], text[TEXT_SIZE], said[REASON_SIZE];
	struct text out = TEXT_ON(text), note = TEXT_ON(said);
	__attribute__((cleanup(forget))) struct known known = {0};
	struct unit_way way = {.exec = wish->ours.exec, .ctl = wish->ours.ctl, .library = wish->ours.library};
	struct starter starter;
	bool had;

	if (!unit_name(word, name, sizeof(name), why) || !ask_properties(name, &known, why) ||
	    !ask_files(&known, why) || !unit_may_enable(&known.unit, why) ||
	    !fitness_look(&known.unit, &way, &starter, &note, why))
		return false;
	unit_write(&known.unit, &way, &out);
	if (out.cut) {
		text_add(why, "its ExecStart= is too long");
		return false;
	}
	if (!is_ours(known.place.file, why))
		return false;
	had = holds(known.place.file, text);
	if (!had && io_read_file(known.place.file, known.before, sizeof(known.before)) < 0)
		*known.before = '\0';
	if (!had && !wish->dry_run && !put_in_place(&known, text, why))
		return false;
	if (!wish->dry_run && wish->now && !prove(&known, wish->ours.ctl, had, why))
		return false;
	tell(wish, &known, had, text, said);
	if (*said && !wish->as_json)
		warnx("%s: %s", known.unit.id, said);
	tell_when(wish, &known);
	return true;
}

/* ---- disable ---- */

static bool disable(const char *word, struct wish *wish, struct text *why)
{
	char name[UNIT_NAME_SIZE];
	__attribute__((cleanup(forget))) struct known known = {0};

	if (!unit_name(word, name, sizeof(name), why) || !ask_properties(name, &known, why) ||
	    !is_ours(known.place.file, why))
		return false;
	if (unlink(known.place.file)) {
		if (errno == ENOENT) {
			if (wish->as_json)
				tell_json(&wish->json, known.unit.id, "not enabled", known.place.file, NULL, NULL);
			else
				printf("%s: not enabled\n", known.unit.id);
			return true;
		}
		say_failed(known.place.file, "removed", errno, why);
		return false;
	}
	rmdir(known.place.directory); /* unless there are others in it */
	if (!reload_manager(why))
		return false;
	if (wish->as_json)
		tell_json(&wish->json, known.unit.id, "removed", known.place.file, NULL, NULL);
	else
		printf("removed %s\n", known.place.file);
	return !wish->now || restart_now(known.unit.id, why);
}

/* ---- the commands ---- */

static enum outcome each(int argc, char **argv, struct wish *wish,
			 bool (*one)(const char *word, struct wish *wish, struct text *why))
{
	enum outcome outcome = OUTCOME_DONE;

	if (wish->as_json)
		json_array(&wish->json, NULL);
	for (int i = optind; i < argc; i++) {
		char reason[REASON_SIZE];
		struct text why = TEXT_ON(reason);

		if (one(argv[i], wish, &why))
			continue;
		if (wish->as_json)
			tell_json(&wish->json, argv[i], "failed", NULL, NULL, reason);
		fflush(stdout); /* in its place, if both are one file */
		warnx("%s: %s", argv[i], reason);
		outcome = OUTCOME_FAILED;
	}
	if (wish->as_json)
		json_end(&wish->json, ']');
	return outcome;
}

static void parse(int argc, char **argv, struct wish *wish, const struct option *options, const char *usage)
{
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option == 'd')
			wish->dry_run = true;
		else if (option == 'n')
			wish->now = true;
		else if (option == 'j')
			wish->as_json = true;
		else
			cmd_help_or_usage(option, argv[0], usage);
	}
	if (optind >= argc)
		cmd_expect_word(argc, argv, "UNIT");
}

enum outcome cmd_enable(int argc, char **argv)
{
	static const struct option options[] = {
		{"dry-run", no_argument, NULL, 'd'},
		{"now", no_argument, NULL, 'n'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct wish wish = {.json.out = stdout};
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);

	parse(argc, argv, &wish, options, enable_usage);
	if (!find_ours(&wish.ours, &why))
		return cmd_fail(OUTCOME_FAILED, &why);
	return each(argc, argv, &wish, enable);
}

enum outcome cmd_disable(int argc, char **argv)
{
	static const struct option options[] = {
		{"now", no_argument, NULL, 'n'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct wish wish = {.json.out = stdout};

	parse(argc, argv, &wish, options, disable_usage);
	return each(argc, argv, &wish, disable);
}
