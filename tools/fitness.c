/* SPDX-License-Identifier: MIT */
/* What stands between a service and cpr, seen from its program. */
#define _GNU_SOURCE
#include "fitness.h"

#include "base/attr.h"
#include "check.h"
#include "defaults.h"

#include <errno.h>
#include <string.h>

enum { REASON_SIZE = 1024 };

/* What is known of programs that a handover would harm, by their name. NULL: nothing. */
static const char *known_obstacle(const char *program)
{
	static const struct {
		const char *name, *obstacle;
	} known[] = {
		{"dbus-broker-launch", "is what the manager itself talks through"},
		{"dbus-daemon", "is what the manager itself talks through"},
		{"pg_ctlcluster", "starts a server that locks its data, which no reload can hand over"},
		{"squid", "closes its listeners and binds them again, and cannot run twice at a time"},
		{"varnishd", "closes its listeners and binds them again, and cannot run twice at a time"},
	};
	const char *slash = strrchr(program, '/'), *name = slash ? slash + 1 : program;

	for (size_t i = 0; i < countof(known); i++)
		if (!strcmp(name, known[i].name))
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

/* Can it be served? `note`: what is to be known of it. */
static bool look_at_server(const char *path, bool started_by_script, const struct unit *u, bool *alone,
			   struct text *note, struct text *why)
{
	char reason[REASON_SIZE];
	struct text inner = TEXT_ON(reason);
	const char *obstacle = known_obstacle(path);

	if (!obstacle && !started_by_script && shell_stays(path, u))
		obstacle = "is a shell that stays between cpr and the server: let it `exec` the server";
	if (obstacle) {
		text_format(why, "%s %s", path, obstacle);
		return false;
	}
	if (check_served(path, &inner) != -ENOTSUP) {
		enum server_data data = defaults_data(path, (char *[]){(char *)path, NULL});

		*alone = data != SERVER_NO_DATA;
		note_data(path, data, note);
		return true;
	}
	if (!check_filtered(path, &inner)) {
		text_add(why, reason);
		return false;
	}
	text_format(
		note,
		"nothing can be preloaded into %s: its listeners are handed over by a reload and by a restart, idle "
		"connections are not, and a request on one may be cut",
		path);
	return true;
}

bool fitness_look(const struct unit *u, struct unit_way *way, struct starter *starter, struct text *note,
		  struct text *why)
{
	char program[PATH_MAX], path[PATH_MAX];
	struct text name = TEXT_ON(program);

	if (!unit_program(u, &name) || name.cut)
		return true;
	if (check_find(program, path, why))
		return false;
	if (starter_read(path, starter)) {
		way->variable = starter->variable;
		way->server = starter->server;
	}
	return look_at_server(way->server ? way->server : path, way->server, u, &way->alone, note, why);
}
