/* SPDX-License-Identifier: MIT */
/* Scripts that start their server by a command which a variable may name. */
#define _GNU_SOURCE
#include "starter.h"

#include "base/attr.h"
#include "base/io.h"
#include "own.h"

#include <stdlib.h>
#include <string.h>

enum { SCRIPT_MAX = 1 << 16 };

/* The words are not quoted where the script uses it: so it may hold "exec", and options. */
static const struct known {
	const char *name, *variable, *before;
} all[] = {
	{"apache2ctl", "APACHE_HTTPD", "${APACHE_HTTPD:-"},
	{"apachectl", "APACHE_HTTPD", "${APACHE_HTTPD:-"},
};

static const struct known *find(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

	for (size_t i = 0; i < countof(all); i++)
		if (!strcmp(name, all[i].name))
			return &all[i];
	return NULL;
}

bool starter_read(const char *path, struct starter *starter)
{
	const struct known *known = find(path);
	cleanup_free char *text = known ? calloc(1, SCRIPT_MAX) : NULL;
	const char *at;
	size_t n;

	if (!text || io_read_file(path, text, SCRIPT_MAX) < 0 || !(at = strstr(text, known->before)))
		return false;
	at += strlen(known->before);
	n = strcspn(at, "}");
	if (!at[n] || *at != '/' || n >= sizeof(starter->server) || strcspn(at, " \t\n\"'\\$%;") < n)
		return false;
	memcpy(starter->server, at, n);
	starter->server[n] = '\0';
	starter->variable = known->variable;
	return true;
}
