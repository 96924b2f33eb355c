/* SPDX-License-Identifier: MIT */
/* Properties of known servers, by the program's name (servers.def). */
#ifndef CPR_DEFAULTS_H
#define CPR_DEFAULTS_H

/*
 * Returns the signal that ends the server gracefully, by the name of `path`, or of the script of an interpreter. 0: not
 * known.
 */
int defaults_graceful_signal(const char *path, char *const argv[]);

/* Returns the signal at which it starts its own successor, without its supervisor. 0: none is known. */
int defaults_replace_signal(const char *path, char *const argv[]);

/* Data of its own that a server keeps: two generations side by side would each have theirs. */
enum server_data {
	SERVER_NO_DATA,
	SERVER_SAVED,     /* it saves them at its end, and loads them at its start */
	SERVER_IN_MEMORY, /* they are lost at its end */
};

enum server_data defaults_data(const char *path, char *const argv[]);

#endif
