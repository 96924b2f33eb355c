/* SPDX-License-Identifier: MIT */
/* A systemd unit, from its files, and the drop-in that puts its service under cpr. Pure: text in, text out. */
#ifndef CPR_UNIT_H
#define CPR_UNIT_H

#include "base/text.h"

#include <stdbool.h>

/* All strings point into the texts that it was read from; NULL: not set. */
struct unit {
	const char *id, *load_state, *fragment, *active_state, *main_pid; /* from the manager */
	char *drop_ins;                         /* separated by blanks */
	const char *type, *command, *pid_file, *timeout_stop, *runtime_directory, *runtime_preserve, *no_exec_paths;
	const char *bus_name, *store_max, *user, *capabilities, *kill_mode, *kill_signal, *root;
	const char *system_calls, *families; /* which a sandbox allows */
	const char *command_file; /* the file with that command */
	unsigned commands;
};

/* Reads the `KEY=VALUE` lines of `systemctl show`. Changes `shown`. */
void unit_read_properties(struct unit *u, char *shown);

/* Reads the output of `systemctl cat`, without the file `except`, which is our own drop-in. Changes `cat`. */
void unit_read_files(struct unit *u, char *cat, const char *except);

/* Can this service be put under cpr? If not, `why` gets the reason. Its program is checked elsewhere (fitness.h). */
bool unit_may_enable(const struct unit *u, struct text *why);

/* Adds the program of its command. Returns false if only the start shows which one that is. */
bool unit_program(const struct unit *u, struct text *program);

struct unit_way {
	const char *exec, *ctl, *library; /* paths of ours */
	bool alone;                       /* two generations must not run side by side */
	/* the command is a script's, which starts what this variable names, by default this server; NULL: it is none */
	const char *variable, *server;
};

/* Writes the drop-in. */
void unit_write(const struct unit *u, const struct unit_way *way, struct text *out);

#endif
