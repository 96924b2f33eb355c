/* SPDX-License-Identifier: MIT */
/* Handover mode: the parent of a server's generations. */
#ifndef CPR_SUPERVISOR_H
#define CPR_SUPERVISOR_H

#include "adopt.h"
#include "attach.h"
#include "health.h"

struct supervisor_options {
	const char *path; /* of the program, absolute */
	char **argv;
	const char *test;    /* for cprctl; NULL: none */
	int doorbell;        /* the signal that cprctl rings with */
	int restart_signal;  /* 0: none */
	int graceful_signal; /* 0: none */
	bool graceful_is_known; /* it is known for this server, and no option gave it */
	int retire_signal;
	int ready_timeout_s, drain_s, rollback_s;
	int canary_percent, canary_s; /* 0: none */
	int generations; /* how many old ones may drain at a time */
	int crash_limit, crash_window_s;
	struct attach *attach; /* a running server that the first generation replaces; NULL: none */
	struct adopt *adopt;   /* a server that has lost its supervisor; NULL: none */
	int stop_timeout_s; /* seconds from a server's signal to end until it is killed; 0: KILL_AFTER_S */
	bool fdstore;  /* holdings survive in the service manager's descriptor store */
	int store_max; /* room of that store, in descriptors; 0: not known */
	bool filtered; /* the program cannot be preloaded: gateless.c */
	bool one_at_a_time; /* the old generation ends before the next one starts: turn.c */
	struct health health;
	char **watched; /* files; a change of one restarts the server; absolute paths */
	size_t watched_count;
};

/* Runs the server until it ends. Returns its status as a shell does; after a death by signal it dies by that, too. */
int supervisor_run(const struct supervisor_options *options);

/*
 * The same in the next image of a supervisor, from the memfd `state` of the last one; `argv`: the server's command.
 * `only_check`: only tells whether that would work.
 */
int supervisor_resume(int state, char **argv, bool only_check);

#endif
