/* SPDX-License-Identifier: MIT */
/* A unit of systemd, as its files say it, and the drop-in that puts its service under cpr. Pure: text in, text out. */
#ifndef CPR_UNIT_H
#define CPR_UNIT_H

#include "base/text.h"

#include <stdbool.h>

/* All strings point into the texts that it was read from; NULL: not set. */
struct unit {
	const char *id, *load_state, *fragment, *active_state, *main_pid; /* what the manager says */
	char *drop_ins;                         /* separated by blanks */
	const char *type, *command, *pid_file, *timeout_stop, *runtime_directory, *runtime_preserve, *no_exec_paths;
	const char *bus_name, *store_max, *user, *capabilities, *kill_mode, *kill_signal, *root;
	const char *system_calls, *families; /* which a sandbox allows */
	const char *command_file; /* where `command` was said */
	unsigned commands;
};

/* Takes `KEY=VALUE` lines of `systemctl show`. Changes `shown`. */
void unit_read_properties(struct unit *u, char *shown);

/*
 * Takes what `systemctl cat` says, without the file `except`: our own drop-in says nothing of the unit. Changes `cat`.
 */
void unit_read_files(struct unit *u, char *cat, const char *except);

/* Can this service be put under cpr? False: `why` says why not. What its program is, is another question. */
bool unit_may_enable(const struct unit *u, struct text *why);

/* The program of its command, for a look at its file. False: it is known at its start only. */
bool unit_program(const struct unit *u, struct text *program);

struct unit_way {
	const char *exec, *ctl, *library; /* paths of ours */
	bool alone;                       /* two generations must not run side by side */
	/* the command is a script's, which starts what this variable names: this server, by default; NULL: it is not */
	const char *variable, *server;
};

/* The drop-in. */
void unit_write(const struct unit *u, const struct unit_way *way, struct text *out);

#endif
