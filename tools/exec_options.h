/* SPDX-License-Identifier: MIT */
/* What cpr-exec's command line asks for. What is for the library goes into the environment, as its settings. */
#ifndef CPR_EXEC_OPTIONS_H
#define CPR_EXEC_OPTIONS_H

#include "own.h"
#include "supervisor.h"

/* Exit statuses, where it is not the command's. */
enum { FAILED = 1, USAGE = 2, NOT_EXECUTABLE = 126, NOT_FOUND = 127 };

enum { SECONDS_MAX = 86400 };

struct exec_options {
	bool handover;
	const char *handover_option; /* one that is for handover mode only was given; NULL */
	struct supervisor_options supervisor;
	bool no_defaults;
	pid_t attach_pid, adopt_pid; /* 0: none */
	bool dry_run, only_check;
	int resumed_state; /* a supervisor's, to its next image: a descriptor; -1 */
	char **command;    /* what follows the options; the first may be NULL */
};

/* What argv says. The same every time, and not to be freed. Ends this program with a line if it cannot be. */
struct exec_options *exec_options_read(int argc, char **argv);

/* A setting, for the library. Ends this program if there is no memory. */
void exec_options_set(const char *name, const char *value);

/* The signal that cprctl rings with. */
int exec_options_doorbell(void);

#endif
