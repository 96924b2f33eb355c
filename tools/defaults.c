/* SPDX-License-Identifier: MIT */
/* What is known of a server by its program's name. */
#define _GNU_SOURCE
#include "defaults.h"

#include "base/attr.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>

static const struct server {
	const char *name;
	int graceful;
	enum server_data data;
	int replace;
} servers[] = {
#define SERVER(name, graceful, data, replace) {name, graceful, SERVER_##data, replace},
#include "servers.def"
#undef SERVER
};

/* "php-fpm8.3" is php-fpm: a version may follow the name. */
static const struct server *find(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

	for (size_t i = 0; i < countof(servers); i++) {
		size_t n = strlen(servers[i].name);

		if (!strncmp(name, servers[i].name, n) && !name[n + strspn(name + n, "0123456789.")])
			return &servers[i];
	}
	return NULL;
}

static const struct server *find_started(const char *path, char *const argv[])
{
	const struct server *server = find(path);

	for (int i = 1; !server && argv[0] && argv[i] && i <= 2;
	     i++) /* python3 /usr/bin/gunicorn, python3 -m uvicorn */
		server = find(argv[i]);
	return server;
}

int defaults_graceful_signal(const char *path, char *const argv[])
{
	const struct server *server = find_started(path, argv);

	return server ? server->graceful : 0;
}

int defaults_replace_signal(const char *path, char *const argv[])
{
	const struct server *server = find_started(path, argv);

	return server ? server->replace : 0;
}

enum server_data defaults_data(const char *path, char *const argv[])
{
	const struct server *server = find_started(path, argv);

	return server ? server->data : SERVER_NO_DATA;
}
