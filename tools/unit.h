/* SPDX-License-Identifier: MIT */
/* A unit of systemd, as its files say it, and the drop-in that puts its service under cpr. Pure: text in, text out. */
#ifndef CPR_UNIT_H
#define CPR_UNIT_H

#include "base/text.h"

#include <stdbool.h>

/* All strings point into the texts that it was read from; NULL: not set. */
struct unit {
	const char *id, *load_state, *fragment; /* what the manager says */
	char *drop_ins;                         /* separated by blanks */
	const char *type, *command, *pid_file, *timeout_stop, *runtime_directory, *runtime_preserve, *no_exec_paths;
	const char *bus_name, *store_max, *user, *capabilities;
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

/* The drop-in. `exec`, `ctl`, `library`: paths of ours; `alone`: two generations must not run side by side. */
void unit_write(const struct unit *u, const char *exec, const char *ctl, const char *library, bool alone,
		struct text *out);

#endif
