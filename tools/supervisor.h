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
	bool graceful_is_known; /* of the server, and was not asked for */
	int retire_signal;
	int ready_timeout_s, drain_s, rollback_s;
	int canary_percent, canary_s; /* 0: none */
	int generations; /* so many old ones may drain at a time */
	int crash_limit, crash_window_s;
	struct attach *attach; /* a server that runs already, which the first generation follows; NULL: none */
	struct adopt *adopt;   /* a server that has lost its supervisor; NULL: none */
	int stop_timeout_s; /* a server that was told to end is killed after it; 0: KILL_AFTER_S */
	bool fdstore;  /* what is held survives in the service manager's descriptor store */
	int store_max; /* so many descriptors that store takes; 0: not known */
	bool filtered; /* nothing can be preloaded into the program: gateless.c */
	bool one_at_a_time; /* the old generation ends before the next one starts: turn.c */
	struct health health;
	char **watched; /* files; a change of one restarts the server; absolute paths */
	size_t watched_count;
};

/* Runs the server until it ends. Its status, as a shell tells it; a death by signal is died here as well. */
int supervisor_run(const struct supervisor_options *options);

/*
 * The same in the next image of a supervisor, from what the last one has left in the memfd `state`; `argv`: the
 * server's command. `only_check`: says whether that would be possible, and does nothing.
 */
int supervisor_resume(int state, char **argv, bool only_check);

#endif
