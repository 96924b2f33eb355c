/* SPDX-License-Identifier: MIT */
/*
 * Starter: a script that starts its server by a command which a variable may name. Debian's apachectl does so, with
 * ${APACHE_HTTPD:-/usr/sbin/apache2}. It prepares directories and limits, and with the variable it then execs cpr-exec.
 */
#ifndef CPR_STARTER_H
#define CPR_STARTER_H

#include <linux/limits.h>
#include <stdbool.h>

struct starter {
	const char *variable;
	char server[PATH_MAX]; /* the server that it starts by default */
};

/* Returns false if the file at `path` is no known starter. */
bool starter_read(const char *path, struct starter *starter);

#endif
