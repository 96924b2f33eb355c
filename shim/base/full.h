/* SPDX-License-Identifier: MIT */
/* Tables of fixed size. A full one is named once in the log, and in each `cprctl status`. */
#ifndef CPR_BASE_FULL_H
#define CPR_BASE_FULL_H

#include "base/text.h"

enum full {
	FULL_REGISTRATIONS,
	FULL_WAITED_SETS,
	FULL_CHANNELS,
	FULL_EXEC_LISTENERS,
	FULL_FAMILY,
	FULL_ASKED,
	FULL_KEYS,
	FULL_ADOPTED,
	FULL_PASSED,
	FULL_MEMBERS,
	FULL_CHILDREN,
	FULL_THREADS,
	FULL_SERVED,
	FULL_ASYNC,
	FULL_INHERITED,
	FULL_PIDFILES,
	FULL_REPLAY,
	FULL_CALLERS,
	FULLS
};

/* Notes that `table` has no room beyond its `most` entries. A signal handler may call this. Keeps errno. */
void full_note(enum full table, int most);

/* Adds the names of the tables that were full, with commas between them. Adds nothing if none was. */
void full_list(struct text *t);

#endif
