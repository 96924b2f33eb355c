/* SPDX-License-Identifier: MIT */
/* What is known of a server by its program's name (servers.def). */
#ifndef CPR_DEFAULTS_H
#define CPR_DEFAULTS_H

/* The signal that ends it gracefully, by the name of `path`, or of the script that an interpreter is given. 0: nothing
 * is known. */
int defaults_graceful_signal(const char *path, char *const argv[]);

#endif
