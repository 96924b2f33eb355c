/* SPDX-License-Identifier: MIT */
/* A unit of systemd, and the drop-in that puts its service under cpr. */
#define _GNU_SOURCE
#include "unit.h"

#include "base/attr.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define PREFIXES "-@:+!|" /* systemd.service(5) */

#define CALLS "pidfd_open pidfd_getfd pidfd_send_signal kcmp"

enum {
	STOP_S = 30, /* --fdstore drains for 10 seconds, and ends what is left in 5 */
	STORE_MAX = 4096,
	KILLED_S = 5, /* so cpr-exec does without --stop-timeout */
	MOST_S = 86400,
};

/* ---- reading ---- */

static bool is_true(const char *string)
{
	return string && *string;
}

/* The value of a line `KEY = value`; NULL: it is another's. */
static char *value_of(char *line, const char *key)
{
	size_t n = strlen(key);

	if (strncmp(line, key, n))
		return NULL;
	line += n + strspn(line + n, " \t");
	if (*line++ != '=')
		return NULL;
	line += strspn(line, " \t");
	for (n = strlen(line); n && isspace((unsigned char)line[n - 1]);)
		line[--n] = '\0';
	return line;
}

void unit_read_properties(struct unit *u, char *shown)
{
	char *line, *value;

	while ((line = strsep(&shown, "\n"))) {
		if ((value = value_of(line, "Id")))
			u->id = value;
		else if ((value = value_of(line, "LoadState")))
			u->load_state = value;
		else if ((value = value_of(line, "FragmentPath")))
			u->fragment = value;
		else if ((value = value_of(line, "DropInPaths")))
			u->drop_ins = value;
		else if ((value = value_of(line, "ActiveState")))
			u->active_state = value;
		else if ((value = value_of(line, "MainPID")))
			u->main_pid = value;
	}
}

static void blank_line(char **at)
{
	while (**at && **at != '\n')
		*(*at)++ = ' ';
	if (**at)
		*(*at)++ = ' ';
}

/* A backslash at the end of a line joins the next one to it; comments between them are left out. */
static void join_lines(char *text)
{
	for (char *at = text; (at = strstr(at, "\\\n"));) {
		*at++ = ' ';
		*at++ = ' ';
		while (*at == '#' || *at == ';')
			blank_line(&at);
	}
}

/* Is the word among those in the list? */
static bool lists(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *at = list; at && (at = strstr(at, word)); at += n)
		if ((at == list || at[-1] == ' ') && (!at[n] || at[n] == ' '))
			return true;
	return false;
}

/* `systemctl cat` says "# PATH" before each file. */
static const char *file_begins(const struct unit *u, const char *line)
{
	if (strncmp(line, "# /", 3))
		return NULL;
	line += 2;
	return (u->fragment && !strcmp(line, u->fragment)) || lists(u->drop_ins, line) ? line : NULL;
}

static void take_command(struct unit *u, const char *value, const char *file)
{
	u->commands = *value ? u->commands + 1 : 0;
	u->command = *value ? value : NULL;
	u->command_file = file;
}

static void take_setting(struct unit *u, char *line, const char *file)
{
	const struct {
		const char *key;
		const char **value;
	} settings[] = {
		{"Type", &u->type},
		{"PIDFile", &u->pid_file},
		{"TimeoutStopSec", &u->timeout_stop},
		{"TimeoutSec", &u->timeout_stop},
		{"RuntimeDirectory", &u->runtime_directory},
		{"RuntimeDirectoryPreserve", &u->runtime_preserve},
		{"NoExecPaths", &u->no_exec_paths},
		{"BusName", &u->bus_name},
		{"FileDescriptorStoreMax", &u->store_max},
		{"User", &u->user},
		{"CapabilityBoundingSet", &u->capabilities},
		{"KillMode", &u->kill_mode},
		{"KillSignal", &u->kill_signal},
		{"RootDirectory", &u->root},
		{"RootImage", &u->root},
		{"SystemCallFilter", &u->system_calls},
		{"RestrictAddressFamilies", &u->families},
	};
	char *value = value_of(line, "ExecStart");

	if (value)
		take_command(u, value, file);
	for (size_t i = 0; !value && i < countof(settings); i++)
		if ((value = value_of(line, settings[i].key)))
			*settings[i].value = *value ? value : NULL;
}

void unit_read_files(struct unit *u, char *cat, const char *except)
{
	const char *file = NULL, *begins;
	bool service = false;
	char *line;

	join_lines(cat);
	while ((line = strsep(&cat, "\n"))) {
		line += strspn(line, " \t");
		if ((begins = file_begins(u, line))) {
			file = begins;
			service = false;
		} else if (*line == '[') {
			service = !strncmp(line, "[Service]", strlen("[Service]"));
		} else if (service && file && strcmp(file, except)) {
			take_setting(u, line, file);
		}
	}
}

/* ---- what can be served ---- */

static const char *unit_type(const struct unit *u)
{
	return u->type ? u->type : u->bus_name ? "dbus" : "simple";
}

static bool known_type(const char *type)
{
	static const char *const known[] = {"simple", "exec", "notify", "notify-reload", "forking"};

	for (size_t i = 0; i < countof(known); i++)
		if (!strcmp(type, known[i]))
			return true;
	return false;
}

static bool is_loaded(const struct unit *u, struct text *why)
{
	const char *state = u->load_state ? u->load_state : "";

	if (!strcmp(state, "loaded"))
		return true;
	if (!strcmp(state, "masked"))
		text_format(why, "it is masked: `systemctl unmask %s` first", u->id);
	else if (!strcmp(state, "not-found"))
		text_add(why, "there is no such unit: `systemctl list-unit-files` shows those that there are");
	else
		text_format(why, "the manager cannot load it (%s): `systemctl status %s` says more", state, u->id);
	return false;
}

/* What its processes are to the manager. */
static bool may_supervise(const struct unit *u, struct text *why)
{
	static const char init_script[] = "/etc/init.d/";
	const char *command = u->command + strspn(u->command, PREFIXES);

	if (!strncmp(command, init_script, strlen(init_script)))
		text_add(why, "it starts an init script, which starts the server behind cpr-exec's back: write a unit "
			      "that starts the server itself");
	else if (u->kill_mode && (!strcmp(u->kill_mode, "process") || !strcmp(u->kill_mode, "none")))
		text_format(why, "KillMode=%s: sessions outlive a restart of it, which they would not under cpr",
			    u->kill_mode);
	else if (is_true(u->root) && strcmp(u->root, "/"))
		text_format(why, "it has a root directory of its own, %s, which has no cpr-exec", u->root);
	else
		return true;
	return false;
}

bool unit_may_enable(const struct unit *u, struct text *why)
{
	if (!is_loaded(u, why))
		return false;
	if (!known_type(unit_type(u)))
		text_format(why, "Type=%s cannot be served: there are simple, exec, notify, notify-reload and forking",
			    unit_type(u));
	else if (!u->commands)
		text_add(why, "it has no ExecStart=");
	else if (u->commands > 1)
		text_format(why, "it has %u ExecStart= lines, and a supervisor has one server", u->commands);
	else if (u->store_max && strcmp(u->store_max, "0"))
		text_add(why, "it has descriptors of its own in the manager's store (FileDescriptorStoreMax=)");
	else if (strcmp(u->command_file, u->fragment))
		text_format(why, "%s sets ExecStart=: put cpr-exec there, or remove that line", u->command_file);
	else if (memchr(u->command, '@', strspn(u->command, PREFIXES)))
		text_add(why, "ExecStart=@ gives the program a name of its own, which cpr-exec would not keep");
	else if (memchr(u->command, '|', strspn(u->command, PREFIXES)))
		text_add(why, "ExecStart=| starts a shell, and a restart would be of the shell");
	else
		return may_supervise(u, why);
	return false;
}

bool unit_program(const struct unit *u, struct text *program)
{
	const char *command = u->command + strspn(u->command, PREFIXES);
	size_t n = strcspn(command, " \t");

	if (strcspn(command, "$%\\\"'") < n)
		return false;
	text_add_bytes(program, command, n);
	return true;
}

/* ---- the drop-in ---- */

/* The seconds of a unit of time, as systemd.time(7) has it; 0: it is none. */
static double seconds_of(const char *word, size_t n)
{
	static const struct {
		const char *words;
		double seconds;
	} units[] = {
		{" us usec ", 1e-6},
		{" ms msec ", 1e-3},
		{"  s sec second seconds ", 1},
		{" m min minute minutes ", 60},
		{" h hr hour hours ", 3600},
		{" d day days ", 86400},
		{" w week weeks ", 7 * 86400},
	};
	char padded[16];
	struct text t = TEXT_ON(padded);

	text_add(&t, " ");
	text_add_bytes(&t, word, n);
	text_add(&t, " ");
	for (size_t i = 0; !t.cut && i < countof(units); i++)
		if (strstr(units[i].words, padded))
			return units[i].seconds;
	return 0;
}

/* "90", "1min 30s"; -1: it is not said, or not understood. 0 is forever, as "infinity" is. */
static double stop_seconds(const struct unit *u)
{
	const char *at = u->timeout_stop;
	double sum = 0;

	if (!at)
		return -1;
	if (!strcmp(at, "infinity"))
		return 0;
	while (*at) {
		char *end;
		double value = strtod(at, &end);
		size_t n;

		if (end == at || value < 0)
			return -1;
		at = end + strspn(end, " \t");
		n = strspn(at, "abcdefghijklmnopqrstuvwxyz");
		if (!seconds_of(at, n))
			return -1;
		sum += value * seconds_of(at, n);
		at += n + strspn(at + n, " \t");
	}
	return sum;
}

/* The server's own time to end: after it cpr-exec kills it. */
static int stop_timeout(const struct unit *u)
{
	double seconds = stop_seconds(u);

	return !seconds || seconds > MOST_S ? MOST_S : seconds > KILLED_S ? (int)seconds : 0;
}

/* Too soon for the drain of --fdstore? */
static bool stops_too_soon(const struct unit *u)
{
	double seconds = stop_seconds(u);

	return seconds > 0 && seconds < STOP_S;
}

static void add_exec(const struct unit *u, const struct unit_way *way, struct text *out)
{
	text_format(out, "%s --mode=handover --fdstore=%d", way->exec, STORE_MAX);
	if (way->alone) /* clients wait for seconds: those that are connected too */
		text_add(out, " --one-at-a-time --carry=tcp:*");
	if (is_true(u->kill_signal) && strcmp(u->kill_signal, "SIGTERM") && strcmp(u->kill_signal, "15"))
		text_format(out, " --retire-signal=%s", u->kill_signal);
	if (!way->alone && stop_timeout(u))
		text_format(out, " --stop-timeout=%d", stop_timeout(u));
	if (u->pid_file)
		text_format(out, " --unlink=%s%s", *u->pid_file == '/' || *u->pid_file == '%' ? "" : "/run/",
			    u->pid_file);
	text_add(out, " -- ");
}

static void add_command(const struct unit *u, const struct unit_way *way, struct text *out)
{
	size_t prefixes = strspn(u->command, PREFIXES);

	if (way->variable) { /* the script's shell becomes cpr-exec, and so the main process */
		text_format(out, "Environment=\"%s=exec ", way->variable);
		add_exec(u, way, out);
		text_format(out, "%s\"\n", way->server);
		return;
	}
	text_add(out, "ExecStart=\nExecStart=");
	text_add_bytes(out, u->command, prefixes);
	add_exec(u, way, out);
	text_format(out, "%s\n", u->command + prefixes);
}

void unit_write(const struct unit *u, const struct unit_way *way, struct text *out)
{
	text_format(out, "# Written by `cprctl enable %s`; `cprctl disable %s` removes it.\n[Service]\n", u->id, u->id);
	/* the main process is the supervisor, whatever the server's own way to say that it is ready */
	text_add(out, "Type=notify\nNotifyAccess=main\nPIDFile=\n");
	add_command(u, way, out);
	/* +: out of the unit's sandbox, in which it may not see the supervisor (ProtectProc=, PrivateUsers=) */
	text_format(out, "ExecReload=\nExecReload=+%s restart $MAINPID\n", way->ctl);
	/* a stop command would end the server behind its supervisor's back: SIGTERM to the supervisor is what stores */
	text_format(out, "ExecStop=\nKillMode=mixed\nKillSignal=SIGTERM\nFileDescriptorStoreMax=%d\n", STORE_MAX);
	if (stops_too_soon(u))
		text_format(out, "TimeoutStopSec=%d\n", STOP_S);
	if (is_true(u->runtime_directory) && !u->runtime_preserve) /* unix sockets in it are to be found again */
		text_add(out, "RuntimeDirectoryPreserve=restart\n");
	/* if a server changes its user itself, a root without these capabilities may not signal or trace it */
	if (is_true(u->capabilities) && !is_true(u->user))
		text_add(out, "CapabilityBoundingSet=CAP_KILL CAP_SYS_PTRACE\n");
	/*
	 * for sandboxes: what the supervisor and the library need beyond a server. Both settings add to a list of what
	 * is allowed, and take from a list of what is denied
	 */
	if (is_true(u->families))
		text_add(out, "RestrictAddressFamilies=AF_UNIX\n");
	if (is_true(u->system_calls))
		text_add(out, "SystemCallFilter=" CALLS "\n");
	if (is_true(u->no_exec_paths))
		text_format(out, "ExecPaths=%s %s %s\n", way->exec, way->ctl, way->library);
}
