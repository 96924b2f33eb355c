/* SPDX-License-Identifier: MIT */
/*
 * Starter: a script that starts its server by a command which a variable may name. Debian's apachectl does so, with
 * ${APACHE_HTTPD:-/usr/sbin/apache2}: it prepares directories and limits, and the variable has it exec cpr-exec then.
 */
#ifndef CPR_STARTER_H
#define CPR_STARTER_H

#include <linux/limits.h>
#include <stdbool.h>

struct starter {
	const char *variable;
	char server[PATH_MAX]; /* what it starts by default */
};

/* False: what stands at `path` is none that is known. */
bool starter_read(const char *path, struct starter *starter);

#endif
