/* SPDX-License-Identifier: MIT */
/* Servers with little in them but what their clients feel: one answer, two workers where there are workers. */
#define _GNU_SOURCE
#include "servers.h"

#include "base/attr.h"

#include <err.h>
#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void argument(struct service *s, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (s->argc == SERVER_ARGS || vasprintf(&s->argv[s->argc], format, args) < 0)
		errx(1, "%s: its command line is too long", s->server->name);
	va_end(args);
	s->argc++;
}

static int write_file(const struct service *s, const char *name, const char *format, ...)
{
	char path[PATH_MAX + 32];
	va_list args;
	FILE *file;
	bool failed;

	snprintf(path, sizeof(path), "%s/%s", s->room, name);
	file = fopen(path, "we");
	if (!file)
		return -errno;
	va_start(args, format);
	failed = vfprintf(file, format, args) < 0;
	va_end(args);
	return fclose(file) || failed ? -EIO : 0;
}

static int prepare_nginx(struct service *s)
{
	static const char *const kinds[] = {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"};
	const char *user = !geteuid() && getpwnam("www-data") ? "user www-data;" : "";
	char temporary[sizeof(kinds) / sizeof(kinds[0]) * (PATH_MAX + 64)];
	size_t n = 0;

	for (size_t i = 0; i < countof(kinds); i++)
		n += (size_t)snprintf(temporary + n, sizeof(temporary) - n, "%s_temp_path %s/%s;\n", kinds[i], s->room,
				      kinds[i]);
	argument(s, "-p");
	argument(s, "%s", s->room);
	argument(s, "-c");
	argument(s, "%s/nginx.conf", s->room);
	argument(s, "-e");
	argument(s, "stderr");
	return write_file(s, "nginx.conf",
			  "daemon %s;\n%s\nworker_processes 2;\npid %s/nginx.pid;\nerror_log stderr;\nevents { "
			  "worker_connections 1024; }\n"
			  "http {\naccess_log off;\nkeepalive_requests 1000000000;\n%s"
			  "server {\nlisten 127.0.0.1:%d;\nlocation / { return 200 \"" LOAD_BODY "\"; }\n}\n}\n",
			  s->way->kind == WAY_UPGRADE ? "on" : "off", user, s->room, temporary, s->port);
}

static int prepare_redis(struct service *s)
{
	argument(s, "%s/redis.conf", s->room);
	return write_file(s, "redis.conf", "bind 127.0.0.1\nport %d\ndir %s\ndaemonize no\nsave \"\"\nappendonly no\n",
			  s->port, s->room);
}

static int prepare_node(struct service *s)
{
	argument(s, "%s/http.js", s->room);
	return write_file(s, "http.js",
			  "const body = '" LOAD_BODY "';\n"
			  "require('http').createServer((request, response) => {\n"
			  "  response.writeHead(200, { 'Content-Length': body.length });\n"
			  "  response.end(body);\n"
			  "}).listen(%d, '127.0.0.1');\n",
			  s->port);
}

static int prepare_python(struct service *s)
{
	argument(s, "-B");
	argument(s, "%s/http_server.py", s->room);
	return write_file(s, "http_server.py",
			  "from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer\n"
			  "BODY = b'" LOAD_BODY "'\n"
			  "class Handler(BaseHTTPRequestHandler):\n"
			  "    protocol_version = 'HTTP/1.1'\n"
			  "    wbufsize = -1\n"
			  "    def do_GET(self):\n"
			  "        self.send_response(200)\n"
			  "        self.send_header('Content-Length', str(len(BODY)))\n"
			  "        self.end_headers()\n"
			  "        self.wfile.write(BODY)\n"
			  "    def log_message(self, *_):\n"
			  "        pass\n"
			  "ThreadingHTTPServer(('127.0.0.1', %d), Handler).serve_forever()\n",
			  s->port);
}

static int prepare_haproxy(struct service *s)
{
	if (s->way->kind == WAY_SIGNAL)
		argument(s, "-W");
	argument(s, "-db");
	argument(s, "-f");
	argument(s, "%s/haproxy.cfg", s->room);
	return write_file(
		s, "haproxy.cfg",
		"global\n    maxconn 1024\n    hard-stop-after 5s\n"
		"defaults\n    mode http\n    timeout client 60s\n    timeout connect 5s\n    timeout server 60s\n"
		"frontend bench\n    bind 127.0.0.1:%d\n"
		"    http-request return status 200 content-type text/plain string \"" LOAD_BODY "\"\n",
		s->port);
}

static int prepare_gunicorn(struct service *s)
{
	argument(s, "--bind");
	argument(s, "127.0.0.1:%d", s->port);
	argument(s, "--chdir");
	argument(s, "%s", s->room);
	argument(s, "--log-level");
	argument(s, "error");
	argument(s, "--workers");
	argument(s, "2");
	argument(s, "--threads");
	argument(s, "4");
	argument(s, "--keep-alive");
	argument(s, "60");
	argument(s, "--graceful-timeout");
	argument(s, "5");
	argument(s, "app:app");
	return write_file(s, "app.py",
			  "BODY = b'" LOAD_BODY "'\n"
			  "def app(environment, start_response):\n"
			  "    start_response('200 OK', [('Content-Length', str(len(BODY)))])\n"
			  "    return [BODY]\n");
}

static int prepare_java(struct service *s)
{
	argument(s, "-XX:+UseSerialGC");
	argument(s, "-XX:TieredStopAtLevel=1"); /* one processor is the server's and the compiler's */
	argument(s, "%s/Http.java", s->room);
	argument(s, "%d", s->port);
	return write_file(s, "Http.java",
			  "import com.sun.net.httpserver.HttpServer;\n"
			  "import java.net.InetSocketAddress;\n"
			  "class Http {\n"
			  "  public static void main(String[] words) throws Exception {\n"
			  "    byte[] body = \"" LOAD_BODY "\".getBytes();\n"
			  "    var at = new InetSocketAddress(\"127.0.0.1\", Integer.parseInt(words[0]));\n"
			  "    var server = HttpServer.create(at, 0);\n"
			  "    server.createContext(\"/\", exchange -> {\n"
			  "      exchange.sendResponseHeaders(200, body.length);\n"
			  "      exchange.getResponseBody().write(body);\n"
			  "      exchange.close();\n"
			  "    });\n"
			  "    server.setExecutor(java.util.concurrent.Executors.newFixedThreadPool(4));\n"
			  "    server.start();\n"
			  "  }\n"
			  "}\n");
}

#define IN_HANDOVER_MODE                                                            \
	{                                                                           \
		.name = "cpr, handover mode", .kind = WAY_CPR, .handover = true     \
	}

const struct server servers[] = {
	{
		.name = "nginx",
		.program = "nginx",
		.about = "a master and 2 workers, an answer of a few bytes",
		.protocol = &load_http,
		.rate = 1000,
		.prepare = prepare_nginx,
		.ways =
			{
				{.name = "cpr", .kind = WAY_CPR},
				{.name = "stop and start", .kind = WAY_STOP},
				{.name = "upgrade (USR2)", .kind = WAY_UPGRADE},
				{.name = "reload (HUP)", .kind = WAY_SIGNAL, .signal = SIGHUP},
				IN_HANDOVER_MODE,
			},
	},
	{
		.name = "redis",
		.program = "redis-server",
		.about = "PING, no data to load",
		.protocol = &load_redis,
		.rate = 1000,
		.prepare = prepare_redis,
		.ways =
			{
				{.name = "cpr --carry", .kind = WAY_CPR, .carry = "tcp:*"},
				{.name = "stop and start", .kind = WAY_STOP},
				{.name = "cpr without --carry", .kind = WAY_CPR},
				{.name = "cpr --carry, handover mode",
				 .kind = WAY_CPR,
				 .handover = true,
				 .carry = "tcp:*"},
			},
	},
	{
		.name = "node",
		.program = "node",
		.about = "its http module",
		.protocol = &load_http,
		.rate = 1000,
		.prepare = prepare_node,
		.ways =
			{
				{.name = "cpr", .kind = WAY_CPR},
				{.name = "stop and start", .kind = WAY_STOP},
				IN_HANDOVER_MODE,
			},
	},
	/* Not what PATH finds first, which may be a script that looks for one. */
	{
		.name = "python",
		.program = "/usr/bin/python3",
		.about = "its ThreadingHTTPServer",
		.protocol = &load_http,
		.rate = 500,
		.prepare = prepare_python,
		.ways =
			{
				{.name = "cpr", .kind = WAY_CPR},
				{.name = "stop and start", .kind = WAY_STOP},
				IN_HANDOVER_MODE,
			},
	},
	{
		.name = "haproxy",
		.program = "haproxy",
		.about = "an answer of its own",
		.protocol = &load_http,
		.rate = 1000,
		.prepare = prepare_haproxy,
		.ways =
			{
				{.name = "cpr", .kind = WAY_CPR},
				{.name = "stop and start", .kind = WAY_STOP},
				{.name = "reload (-W, USR2)", .kind = WAY_SIGNAL, .signal = SIGUSR2},
				IN_HANDOVER_MODE,
			},
		.optional = true,
	},
	{
		.name = "gunicorn",
		.program = "gunicorn",
		.about = "2 workers of 4 threads",
		.protocol = &load_http,
		.rate = 500,
		.prepare = prepare_gunicorn,
		.ways =
			{
				{.name = "cpr", .kind = WAY_CPR},
				{.name = "stop and start", .kind = WAY_STOP},
				{.name = "reload (HUP)", .kind = WAY_SIGNAL, .signal = SIGHUP},
				IN_HANDOVER_MODE,
			},
		.optional = true,
	},
	{
		.name = "java",
		.program = "java",
		.about = "the JDK's own server, run from its source",
		.protocol = &load_http,
		.rate = 500,
		.prepare = prepare_java,
		.ways =
			{
				{.name = "cpr", .kind = WAY_CPR},
				{.name = "stop and start", .kind = WAY_STOP},
				IN_HANDOVER_MODE,
			},
		.optional = true,
	},
};

const size_t server_count = countof(servers);

const struct server *server_find(const char *name)
{
	for (size_t i = 0; i < server_count; i++)
		if (!strcmp(servers[i].name, name))
			return &servers[i];
	return NULL;
}

const struct way *way_of(const struct server *server, enum way_kind kind)
{
	for (size_t i = 0; i < SERVER_WAYS && server->ways[i].name; i++)
		if (server->ways[i].kind == kind)
			return &server->ways[i];
	return NULL;
}

bool program_find(const char *name, char path[PATH_MAX])
{
	const char *given = getenv("PATH");
	char places[4 * PATH_MAX], *next = places, *place;

	if (strchr(name, '/')) {
		snprintf(path, PATH_MAX, "%s", name);
		return !access(path, X_OK);
	}
	snprintf(places, sizeof(places), "%s:/usr/local/sbin:/usr/sbin:/sbin", given ? given : "/usr/bin:/bin");
	while ((place = strsep(&next, ":")))
		if (*place && snprintf(path, PATH_MAX, "%s/%s", place, name) < PATH_MAX && !access(path, X_OK))
			return true;
	return false;
}
