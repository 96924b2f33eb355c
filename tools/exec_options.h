/* SPDX-License-Identifier: MIT */
/* The command line of cpr-exec. Options for the library go into the environment, as its settings. */
#ifndef CPR_EXEC_OPTIONS_H
#define CPR_EXEC_OPTIONS_H

#include "own.h"
#include "supervisor.h"

/* Exit statuses that are not the command's. */
enum { FAILED = 1, USAGE = 2, NOT_EXECUTABLE = 126, NOT_FOUND = 127 };

enum { SECONDS_MAX = 86400 };

struct exec_options {
	bool handover;
	const char *handover_option; /* an option that is only for handover mode; NULL: none was given */
	struct supervisor_options supervisor;
	bool no_defaults;
	pid_t attach_pid, adopt_pid; /* 0: none */
	bool dry_run, only_check;
	int resumed_state; /* a supervisor's descriptor for its next image; -1 */
	char **command;    /* what follows the options; the first may be NULL */
};

/* Returns the options of argv: always the same struct, not to be freed. Prints a line and exits if one is wrong. */
struct exec_options *exec_options_read(int argc, char **argv);

/* Sets a setting for the library. Exits if there is no memory. */
void exec_options_set(const char *name, const char *value);

/* Returns the signal with which cprctl rings. */
int exec_options_doorbell(void);

#endif
