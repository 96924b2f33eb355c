/* SPDX-License-Identifier: MIT */
/* The settings of this process: read once from CPR_* at the start, since servers clear their environment. */
#ifndef CPR_MODEL_SETTINGS_H
#define CPR_MODEL_SETTINGS_H

#include "model/rules.h"

/* cpr-exec writes these, and the library reads them. Numbers are decimal, times are seconds. */
#define SETTINGS_RULES "CPR_RULES"                   /* rules, one a line (model/rules.h) */
#define SETTINGS_DRAIN "CPR_DRAIN"                   /* 5 */
#define SETTINGS_GRACE "CPR_GRACE"                   /* 30 */
#define SETTINGS_READY_TIMEOUT "CPR_READY_TIMEOUT"   /* 60 */
#define SETTINGS_TEST "CPR_TEST"                     /* a command for sh -c, run by cprctl before a restart */
/* Absolute paths, one a line, removed before the next generation starts. */
#define SETTINGS_UNLINK "CPR_UNLINK"
#define SETTINGS_PIDFILE "CPR_PIDFILE"               /* absolute path: holds the owner's pid */
#define SETTINGS_SIGNAL "CPR_SIGNAL"                 /* the doorbell's number; SIGRTMAX-5 */
#define SETTINGS_RETIRE_SIGNAL "CPR_RETIRE_SIGNAL"   /* sent to workers of an old generation; SIGTERM */
#define SETTINGS_RESTART_SIGNAL "CPR_RESTART_SIGNAL" /* a signal that restarts, 0: none */
#define SETTINGS_IO_URING "CPR_IO_URING"             /* deny (the default) or allow */
#define SETTINGS_LOG "CPR_LOG"                       /* LEVEL or LEVEL:FILE, the file absolute */
#define SETTINGS_STOP_TIMEOUT "CPR_STOP_TIMEOUT"     /* for the supervisor: it kills a server so long after SIGTERM */
/* The pid of cpr-exec, and so of the program. Processes that the program starts inherit all these variables. */
#define SETTINGS_PID "CPR_PID"
#define SETTINGS_REPLACE_SIGNAL "CPR_REPLACE_SIGNAL" /* a number: a supervisor keeps that signal from the program */
#define SETTINGS_SUPERVISOR "CPR_SUPERVISOR"         /* PID:NONCE of the supervisor: handover mode */
#define SETTINGS_GATE "CPR_GATE"                     /* "closed": the generation begins behind its gate */
#define SETTINGS_ROLLBACK "CPR_ROLLBACK"             /* 1: the generation may serve again later */
#define SETTINGS_STATE_FD "CPR_STATE_FD"             /* the state, only from one generation to the next */

struct settings {
	struct rules rules;
	int drain_s, grace_s, ready_timeout_s;
	int signal, retire_signal, restart_signal;
	int replace_signal; /* at it the server would start its own successor: it is kept away; 0: none */
	const char *test, *unlink, *pidfile; /* NULL: none */
	int supervisor;            /* its pid; 0: exec mode */
	uint64_t supervisor_nonce; /* names its address: protocol_address() */
	bool io_uring;             /* allowed */
	bool gated;                /* begin behind the gate */
	bool comes_back;           /* it may serve again, after another generation did */
};

/*
 * Reads `envp`; its strings are copied, and the copy stays. A wrong value is named in the log, and the default is used:
 * a bad setting never stops the program from starting. Also sets the log's level and file.
 */
void settings_read(struct settings *settings, char *const envp[]);

/* Reads one number. Returns `fallback` if it is not set, and, with a warning, if it is not from `least` to `most`. */
int settings_number(char *const envp[], const char *name, int least, int most, int fallback);

/* Returns the doorbell's signal. */
int settings_doorbell(char *const envp[]);

/*
 * Returns the value of `name` in envp, or NULL; settings_env_remove removes it in place. We cannot use getenv(3) and
 * unsetenv(3): bash has functions of its own by these names, for its variables, which leave the environment as it is.
 */
const char *settings_env(char *const envp[], const char *name);
void settings_env_remove(char **envp, const char *name);

#endif
