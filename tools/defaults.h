/* SPDX-License-Identifier: MIT */
/* What is known of a server by its program's name (servers.def). */
#ifndef CPR_DEFAULTS_H
#define CPR_DEFAULTS_H

/* The signal that ends it gracefully, by the name of `path`, or of the script that an interpreter is given. 0: nothing
 * is known. */
int defaults_graceful_signal(const char *path, char *const argv[]);

/* The signal at which it starts its own successor, behind a supervisor's back. 0: none is known. */
int defaults_replace_signal(const char *path, char *const argv[]);

/* Data that a server keeps for itself: two generations side by side would each have their own. */
enum server_data {
	SERVER_NO_DATA,
	SERVER_SAVED,     /* it saves them when it is told to end, and loads them at its start */
	SERVER_IN_MEMORY, /* they end with it */
};

enum server_data defaults_data(const char *path, char *const argv[]);

#endif
