/* SPDX-License-Identifier: MIT */
/* Starts, restarts and ends a server, and leaves no process and no file behind. */
#define _GNU_SOURCE
#include "service.h"

#include "base/attr.h"
#include "base/io.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MS INT64_C(1000000)
#define READY_WITHIN (30000 * MS)
#define STOPPED_WITHIN (10000 * MS)
#define LOOK_EVERY (MS / 2)

enum {
	/*
	 * Below the ports that the kernel gives to clients. A client could take the server's port while that is down,
	 * and even connect to itself.
	 */
	FIRST_PORT = 20000,
	LAST_PORT = 32000,
	FAMILY_MAX = 256,
	TAIL = 1000,
};

extern char **environ;

/* ---- waiting ---- */

static volatile sig_atomic_t interrupted;
static const int signals[] = {SIGINT, SIGTERM};
static struct sigaction kept_actions[countof(signals)];

static void note_signal(int signo)
{
	interrupted = signo;
}

void service_begin(void)
{
	const struct sigaction action = {.sa_handler = note_signal};

	interrupted = 0;
	for (size_t i = 0; i < countof(signals); i++) {
		sigaction(signals[i], &action, &kept_actions[i]);
		if (kept_actions[i].sa_handler == SIG_IGN)
			sigaction(signals[i], &kept_actions[i], NULL);
	}
	prctl(PR_SET_CHILD_SUBREAPER, 1UL); /* what goes to the background is still ours to end */
}

void service_end(void)
{
	int signo = interrupted;

	prctl(PR_SET_CHILD_SUBREAPER, 0UL);
	for (size_t i = 0; i < countof(signals); i++)
		sigaction(signals[i], &kept_actions[i], NULL);
	if (signo)
		raise(signo);
}

static void pause_ns(int64_t ns)
{
	const struct timespec time = {ns / (1000 * MS), ns % (1000 * MS)};

	nanosleep(&time, NULL);
}

int service_sleep_until(int64_t until)
{
	while (!interrupted) {
		int64_t left = until - bench_now();

		if (left <= 0)
			return 0;
		pause_ns(left);
	}
	return -EINTR;
}

typedef bool (*condition)(struct service *service, void *arg);

/* For what gives no event to wait on. */
static bool await(struct service *service, condition holds, void *arg, int64_t within)
{
	int64_t until = bench_now() + within;

	while (!holds(service, arg)) {
		if (bench_now() >= until)
			return false;
		pause_ns(LOOK_EVERY);
	}
	return true;
}

/* ---- processes ---- */

/* What a process ended with is of no interest, only that it did. */
static bool has_gone(pid_t pid)
{
	waitpid(pid, NULL, WNOHANG);
	return kill(pid, 0) && errno == ESRCH;
}

static bool is_gone(struct service *service, void *arg)
{
	(void)service;
	return has_gone(*(const pid_t *)arg);
}

/* How many children the process has; the first FAMILY_MAX of them. */
static size_t children(pid_t pid, pid_t *found)
{
	char path[64], text[8 * FAMILY_MAX], *at = text;
	size_t n = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	if (io_read_file(path, text, sizeof(text)) < 0)
		return 0;
	while (n < FAMILY_MAX) {
		char *end;
		long child = strtol(at, &end, 10);

		if (end == at || child <= 0)
			break;
		found[n++] = (pid_t)child;
		at = end;
	}
	return n;
}

static void kill_below(pid_t pid, int depth)
{
	pid_t found[FAMILY_MAX];
	size_t n = depth ? children(pid, found) : 0;

	for (size_t i = 0; i < n; i++) {
		kill_below(found[i], depth - 1);
		kill(found[i], SIGKILL);
	}
}

/* What is open: only the last one sweeps up. */
static int open_services;

/* Everything that came from us, and what it has left to us. */
static bool family_gone(struct service *service, void *arg)
{
	(void)service;
	(void)arg;
	kill_below(getpid(), 4);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	return waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD;
}

/* Of its first thread, which is all that nginx and redis work with. */
static int64_t cpu_ns(pid_t pid)
{
	char path[64], text[128];

	snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
	return io_read_file(path, text, sizeof(text)) > 0 ? strtoll(text, NULL, 10) : 0;
}

int64_t service_cpu_ns(const struct service *service)
{
	pid_t found[FAMILY_MAX];
	size_t n = children(service->pid, found);
	int64_t total = cpu_ns(service->pid);

	for (size_t i = 0; i < n; i++)
		total += cpu_ns(found[i]);
	return total;
}

/* ---- starting ---- */

/* The end of what it said, on stderr. */
static void show_output(const struct service *service)
{
	char path[PATH_MAX + 16], text[TAIL + 1];
	cleanup_fd int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/output", service->room);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (lseek(fd, -TAIL, SEEK_END) < 0)
		lseek(fd, 0, SEEK_SET);
	n = io_read_all(fd, text, TAIL);
	if (n > 0)
		fprintf(stderr, "its last words:\n%.*s\n", (int)n, text);
}

static int failed(const struct service *service, const char *how, int error)
{
	warnx("%s, %s: %s", service->server->name, service->way->name, how);
	show_output(service);
	return error;
}

static int spawn(struct service *service, char *const *argv, pid_t *pid)
{
	char output[PATH_MAX + 16];
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int r;

	snprintf(output, sizeof(output), "%s/output", service->room);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output, O_WRONLY | O_CREAT | O_APPEND, 0644);
	posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
	posix_spawn_file_actions_addchdir_np(&actions, service->room);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setpgroup(&attributes, 0); /* an interrupt is for us, and we end it */
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
	r = posix_spawn(pid, argv[0], &actions, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

static pid_t pid_in_file(const struct service *service)
{
	char path[PATH_MAX + 16], text[32];

	snprintf(path, sizeof(path), "%s/nginx.pid", service->room);
	return io_read_file(path, text, sizeof(text)) > 0 ? (pid_t)atoi(text) : 0;
}

/* arg: the process that was started; a daemon's ends when it has made the server. */
static bool answers_or_ended(struct service *service, void *arg)
{
	bool daemon = service->way->kind == WAY_UPGRADE;

	return load_try(service->server->protocol, service->port) || (!daemon && has_gone(*(const pid_t *)arg));
}

int service_start(struct service *service, int64_t *took)
{
	char *argv[SERVER_ARGS + 8];
	size_t n = 0;
	int64_t began;
	pid_t pid;
	int r;

	if (service->way->kind == WAY_CPR) {
		argv[n++] = (char *)service->bench->exec;
		if (service->way->handover)
			argv[n++] = (char *)"--mode=handover";
		if (service->way->carry) {
			argv[n++] = (char *)"--carry";
			argv[n++] = (char *)service->way->carry;
		}
		argv[n++] = (char *)"--";
	}
	for (size_t i = 0; i <= service->argc; i++)
		argv[n++] = service->argv[i];
	began = bench_now();
	r = spawn(service, argv, &pid);
	if (r)
		return failed(service, strerror(-r), r);
	service->pid = pid;
	if (!await(service, answers_or_ended, &pid, READY_WITHIN))
		return failed(service, "started, it does not answer", -ETIMEDOUT);
	*took = bench_now() - began;
	if (service->way->kind == WAY_UPGRADE) {
		service->pid = pid_in_file(service);
		if (!await(service, is_gone, &pid, STOPPED_WITHIN))
			return failed(service, "it does not go to the background", -ETIMEDOUT);
	}
	if (service->pid <= 0 || has_gone(service->pid))
		return failed(service, "it ended at its start", -ECHILD);
	return 0;
}

/* ---- restarting ---- */

static int stop(struct service *service)
{
	pid_t pid = service->pid;

	kill(pid, SIGTERM);
	if (!await(service, is_gone, &pid, STOPPED_WITHIN))
		return failed(service, "SIGTERM does not end it", -ETIMEDOUT);
	service->pid = 0;
	return 0;
}

/* A number of microseconds in cprctl's JSON, as ns; -1: it is not there. */
static int64_t time_in(const char *answer, const char *key)
{
	const char *found = strstr(answer, key);

	return found ? strtoll(found + strlen(key), NULL, 10) * 1000 : -1;
}

static int restart_by_cprctl(struct service *service, struct service_times *times)
{
	char pid[16], answer[1024];
	char *argv[] = {(char *)service->bench->ctl,
			(char *)"restart",
			pid,
			(char *)"--timeout",
			(char *)"20",
			(char *)"--json",
			NULL};
	int r;

	snprintf(pid, sizeof(pid), "%d", (int)service->pid);
	r = machine_run(argv, NULL, answer, sizeof(answer));
	if (r)
		return failed(service, "cprctl restart failed", r < 0 ? r : -EIO);
	times->cprctl = time_in(answer, "\"ready_us\": ");
	times->drain = time_in(answer, "\"drain_us\": ");
	times->gate = time_in(answer, "\"gate_us\": ");
	return 0;
}

struct workers {
	size_t count;
	pid_t pids[FAMILY_MAX];
};

/* As many as there were, and none of them that was there. */
static bool workers_replaced(struct service *service, void *arg)
{
	const struct workers *before = arg;
	struct workers now = {.count = children(service->pid, now.pids)};

	for (size_t i = 0; i < now.count; i++)
		for (size_t k = 0; k < before->count; k++)
			if (now.pids[i] == before->pids[k])
				return false;
	return now.count >= before->count;
}

static int restart_by_signal(struct service *service)
{
	struct workers before = {.count = children(service->pid, before.pids)};

	if (!before.count)
		return failed(service, "it has no workers, or /proc does not tell of them", -ECHILD);
	if (kill(service->pid, service->way->signal))
		return failed(service, "it is gone", -errno);
	if (!await(service, workers_replaced, &before, READY_WITHIN))
		return failed(service, "its workers are not replaced", -ETIMEDOUT);
	return 0;
}

/* arg: how many workers the second master must have. */
static bool second_master_serves(struct service *service, void *arg)
{
	pid_t found[FAMILY_MAX], second = pid_in_file(service);

	return second > 0 && second != service->pid && children(second, found) >= *(const size_t *)arg;
}

static int upgrade(struct service *service)
{
	pid_t found[FAMILY_MAX], first = service->pid;
	size_t count = children(first, found);

	if (!count || kill(first, SIGUSR2))
		return failed(service, "it has no workers, or /proc does not tell of them", -ECHILD);
	if (!await(service, second_master_serves, &count, READY_WITHIN))
		return failed(service, "no second master appears", -ETIMEDOUT);
	service->pid = pid_in_file(service);
	kill(first, SIGQUIT);
	if (!await(service, is_gone, &first, READY_WITHIN))
		return failed(service, "its first master does not end", -ETIMEDOUT);
	return 0;
}

int service_restart(struct service *service, struct service_times *times)
{
	int64_t began = bench_now();
	int r = -EINVAL;

	*times = (struct service_times){.start = -1, .cprctl = -1, .drain = -1, .gate = -1};
	switch (service->way->kind) {
	case WAY_CPR:
		r = restart_by_cprctl(service, times);
		break;
	case WAY_STOP:
		r = stop(service);
		r = r ? r : service_start(service, &times->start);
		break;
	case WAY_SIGNAL:
		r = restart_by_signal(service);
		break;
	case WAY_UPGRADE:
		r = upgrade(service);
		break;
	}
	times->ready = bench_now() - began;
	return interrupted ? -EINTR : r;
}

/* ---- its room ---- */

static int free_port(void)
{
	static int next = FIRST_PORT;

	for (int tried = 0; tried < LAST_PORT - FIRST_PORT; tried++) {
		int port = next++;
		struct sockaddr_in at = {
			.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
		cleanup_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		const int one = 1;

		next = next < LAST_PORT ? next : FIRST_PORT;
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (!bind(fd, (struct sockaddr *)&at, sizeof(at)))
			return port;
	}
	return -EADDRINUSE;
}

int service_open(struct service *service, const struct bench *bench, const struct server *server, const struct way *way)
{
	const char *temporary = getenv("TMPDIR");
	char program[PATH_MAX];
	int r;

	*service = (struct service){.bench = bench, .server = server, .way = way};
	open_services++;
	if (!program_find(server->program, program))
		return -ENOENT;
	snprintf(service->room, sizeof(service->room), "%s/cpr-bench-XXXXXX", temporary ? temporary : "/tmp");
	if (!mkdtemp(service->room)) {
		r = -errno;
		warn("%s", service->room);
		service->room[0] = 0;
		return r;
	}
	chmod(service->room, 0755); /* for workers that are not root */
	service->port = free_port();
	service->argv[service->argc++] = strdup(program);
	r = service->port < 0 ? service->port : server->prepare(service);
	return r ? failed(service, strerror(-r), r) : 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
	(void)status;
	(void)type;
	(void)where;
	return remove(path);
}

void service_close(struct service *service)
{
	if (!service->server)
		return;
	if (service->pid > 0)
		stop(service);
	if (!--open_services && !await(service, family_gone, NULL, STOPPED_WITHIN))
		failed(service, "some of its processes do not end", 0);
	if (*service->room && nftw(service->room, remove_one, 16, FTW_DEPTH | FTW_PHYS))
		warn("%s", service->room);
	for (size_t i = 0; i < service->argc; i++)
		free(service->argv[i]);
	*service = (struct service){0};
}
