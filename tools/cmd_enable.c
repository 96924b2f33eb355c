/* SPDX-License-Identifier: MIT */
/* cprctl enable and disable: the drop-in that puts a service of systemd under cpr. */
#define _GNU_SOURCE
#include "cmd.h"

#include "base/attr.h"
#include "base/io.h"
#include "check.h"
#include "defaults.h"
#include "launch.h"
#include "manager.h"
#include "own.h"
#include "unit.h"

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
	"Usage: cprctl enable [--dry-run] [--now] UNIT...\n"
	"Puts services of systemd under cpr: from their next start on, `systemctl reload` and `systemctl restart` lose "
	"no request.\n"
	"Writes " UNITS "/UNIT.d/" DROP_IN ", made from what the unit says, and shows it.\n"
	"  --dry-run      only shows it\n"
	"  --now          restarts the service too: this one restart is an ordinary one\n"
	"Exit status: 0 done, or it was so already; 1 a unit cannot be served, or failed; 2 usage.\n";

static const char disable_usage[] = "Usage: cprctl disable [--now] UNIT...\n"
				    "Removes what `cprctl enable` wrote. The service is cpr's until its next start.\n"
				    "  --now          restarts it, which is an ordinary restart\n"
				    "Exit status: 0 done, or it was not enabled; 1 failed; 2 usage.\n";

enum { NAME_SIZE = 256, TEXT_SIZE = 16384, REASON_SIZE = 1024 };

struct ours {
	char exec[PATH_MAX], ctl[PATH_MAX], library[PATH_MAX];
};

struct wish {
	bool dry_run, now;
	struct ours ours;
};

struct place {
	char directory[PATH_MAX], file[PATH_MAX];
};

/* ---- words and paths ---- */

/* "nginx" is nginx.service. */
static bool service_name(const char *word, char name[NAME_SIZE], struct text *why)
{
	static const char suffix[] = ".service";
	struct text t = text_on(name, NAME_SIZE);
	const char *dot = strrchr(word, '.'), *at = strchr(word, '@');

	text_add(&t, word);
	if (!dot || strcmp(dot, suffix))
		text_add(&t, suffix);
	if (t.cut || !*word || *word == '.' || *word == '-' || strpbrk(word, "/ \t\n*?["))
		text_add(why, "this is no name of a unit");
	else if (dot && (!strcmp(dot, ".socket") || !strcmp(dot, ".target") || !strcmp(dot, ".timer")))
		text_add(why, "only services can be put under cpr");
	else if (at && (!at[1] || !strcmp(at + 1, suffix)))
		text_add(why, "it is a template: name an instance, UNIT@NAME");
	else
		return true;
	return false;
}

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

/* ---- what the manager knows ---- */

struct known {
	char *shown, *cat;
	struct unit unit;
	struct place place;
};

static void forget(struct known *known)
{
	free(known->shown);
	free(known->cat);
}

static bool ask_properties(const char *name, struct known *known, struct text *why)
{
	char *const argv[] = {"systemctl", "show",       "-p", "Id,LoadState,FragmentPath,DropInPaths",
			      "--",        (char *)name, NULL};

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

/* What is known of servers that a handover would harm, by the name of their program. NULL: nothing. */
static const char *known_obstacle(const char *program, const struct unit *u)
{
	/* three reloads and restarts of apache2 as Debian ships it cut 2 or 3 of 6,000 requests */
	static const char apache[] =
		"ends connections in a handover that it should have kept: start it by cpr-exec in exec mode";
	static const struct {
		const char *name, *option, *obstacle; /* option: NULL, always */
	} known[] = {
		{"apache2", NULL, apache},
		{"apachectl", NULL, apache},
		{"dbus-broker-launch", NULL, "is what the manager itself talks through"},
		{"dbus-daemon", NULL, "is what the manager itself talks through"},
		{"haproxy", " -W", "cannot be handed over with a master process (-W, -Ws)"},
		{"httpd", NULL, apache},
	};
	const char *slash = strrchr(program, '/'), *name = slash ? slash + 1 : program;

	for (size_t i = 0; i < countof(known); i++)
		if (!strcmp(name, known[i].name) && (!known[i].option || strstr(u->command, known[i].option)))
			return known[i].obstacle;
	return NULL;
}

/* `sh -c 'COMMAND'`, or a shell's script, which stays. The words need not be parted to see that. */
static bool shell_stays(const char *path, const struct unit *u)
{
	const char *option = strstr(u->command, " -c ");
	char *const with[] = {(char *)path, "-c", option ? (char *)option + strlen(" -c ") : NULL, NULL};
	char *const without[] = {(char *)path, NULL};

	return check_shell_stays(path, option ? with : without);
}

/* Of a server that keeps data for itself. */
static void note_data(const char *path, enum server_data data, struct text *note)
{
	static const char *const notes[] = {
		[SERVER_SAVED] = "saves its data when it ends",
		[SERVER_IN_MEMORY] = "has lost its data then, as without cpr",
	};

	if (data == SERVER_NO_DATA)
		return;
	text_format(note,
		    "%s keeps data of its own, so that the old generation ends before the next one starts, and clients "
		    "wait: it %s. Connections are carried (--carry): for clients that use a login, SELECT, "
		    "transactions or subscriptions take that out of the ExecStart= above, into a drop-in of yours",
		    path, notes[data]);
}

/* Can its program be served? `note`: what is to be known of it. */
static bool look_at_program(const struct unit *u, bool *alone, struct text *note, struct text *why)
{
	char program[PATH_MAX], path[PATH_MAX], reason[REASON_SIZE];
	struct text name = TEXT_ON(program), inner = TEXT_ON(reason);
	const char *obstacle;

	if (!unit_program(u, &name) || name.cut)
		return true;
	if (check_find(program, path, why))
		return false;
	obstacle = known_obstacle(path, u);
	if (!obstacle && shell_stays(path, u))
		obstacle = "is a shell that stays between cpr and the server: let it `exec` the server";
	if (obstacle) {
		text_format(why, "%s %s", path, obstacle);
		return false;
	}
	if (check_served(path, &inner) != -ENOTSUP) {
		enum server_data data = defaults_data(path, (char *[]){path, NULL});

		*alone = data != SERVER_NO_DATA;
		note_data(path, data, note);
		return true;
	}
	if (!check_filtered(path)) {
		text_add(why, reason);
		return false;
	}
	text_format(
		note,
		"nothing can be preloaded into %s: a reload does not carry idle connections, and a request on one may "
		"be cut; `systemctl restart` is an ordinary one",
		path);
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

static bool restart_now(const char *id, struct text *why)
{
	char *const argv[] = {"systemctl", "restart", "--", (char *)id, NULL};

	if (!manager_ask(argv, NULL, why))
		return true;
	text_format(why, "; `journalctl -u %s` says more", id);
	return false;
}

/* ---- enable ---- */

static bool put_in_place(const struct known *known, const char *text, const struct wish *wish, struct text *why)
{
	const char *id = known->unit.id;

	if (!is_ours(known->place.file, why))
		return false;
	if (holds(known->place.file, text)) {
		printf("%s: already enabled\n", id);
	} else if (wish->dry_run) {
		printf("# %s\n%s", known->place.file, text);
	} else {
		if (!write_drop_in(&known->place, text, why))
			return false;
		if (!reload_manager(why)) { /* the next try is to be no "already enabled" */
			unlink(known->place.file);
			rmdir(known->place.directory);
			return false;
		}
		printf("# %s\n%s", known->place.file, text);
	}
	return wish->dry_run || !wish->now || restart_now(id, why);
}

static bool enable(const char *word, const struct wish *wish, struct text *why)
{
	char name[NAME_SIZE], text[TEXT_SIZE], said[REASON_SIZE];
	struct text out = TEXT_ON(text), note = TEXT_ON(said);
	__attribute__((cleanup(forget))) struct known known = {0};
	bool alone = false;

	if (!service_name(word, name, why) || !ask_properties(name, &known, why) || !ask_files(&known, why) ||
	    !unit_may_enable(&known.unit, why) || !look_at_program(&known.unit, &alone, &note, why))
		return false;
	unit_write(&known.unit, wish->ours.exec, wish->ours.ctl, wish->ours.library, alone, &out);
	if (out.cut) {
		text_add(why, "its ExecStart= is too long");
		return false;
	}
	if (!put_in_place(&known, text, wish, why))
		return false;
	if (*said)
		warnx("%s: %s", known.unit.id, said);
	return true;
}

/* ---- disable ---- */

static bool disable(const char *word, const struct wish *wish, struct text *why)
{
	char name[NAME_SIZE];
	__attribute__((cleanup(forget))) struct known known = {0};

	if (!service_name(word, name, why) || !ask_properties(name, &known, why) || !is_ours(known.place.file, why))
		return false;
	if (unlink(known.place.file)) {
		if (errno == ENOENT) {
			printf("%s: not enabled\n", known.unit.id);
			return true;
		}
		say_failed(known.place.file, "removed", errno, why);
		return false;
	}
	rmdir(known.place.directory); /* unless there are others in it */
	if (!reload_manager(why))
		return false;
	printf("removed %s\n", known.place.file);
	return !wish->now || restart_now(known.unit.id, why);
}

/* ---- the commands ---- */

static enum outcome each(int argc, char **argv, const struct wish *wish,
			 bool (*one)(const char *word, const struct wish *wish, struct text *why))
{
	enum outcome outcome = OUTCOME_DONE;

	for (int i = optind; i < argc; i++) {
		char reason[REASON_SIZE];
		struct text why = TEXT_ON(reason);

		if (one(argv[i], wish, &why))
			continue;
		fflush(stdout); /* in its place, if both are one file */
		warnx("%s: %s", argv[i], reason);
		outcome = OUTCOME_FAILED;
	}
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
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct wish wish = {0};
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
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct wish wish = {0};

	parse(argc, argv, &wish, options, disable_usage);
	return each(argc, argv, &wish, disable);
}
