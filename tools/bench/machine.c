/* SPDX-License-Identifier: MIT */
/* Runs commands, and keeps servers and clients on processors of their own. */
#define _GNU_SOURCE
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

int machine_start(char *const *argv, const char *directory, pid_t *pid, int *out)
{
	posix_spawn_file_actions_t actions;
	int ends[2], r;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
	if (directory)
		posix_spawn_file_actions_addchdir_np(&actions, directory);
	r = posix_spawn(pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(ends[1]);
	if (r)
		close(ends[0]);
	else
		*out = ends[0];
	return -r;
}

int machine_finish(pid_t pid, int from, char *out, size_t size)
{
	char rest[512];
	size_t n = 0;
	ssize_t got;
	int status;

	while ((got = read(from, n + 1 < size ? out + n : rest, n + 1 < size ? size - 1 - n : sizeof(rest))) > 0)
		n += n + 1 < size ? (size_t)got : 0;
	out[n] = 0;
	close(from);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

int machine_run(char *const *argv, const char *directory, char *out, size_t size)
{
	pid_t pid;
	int from, r = machine_start(argv, directory, &pid, &from);

	if (!r)
		return machine_finish(pid, from, out, size);
	out[0] = 0;
	return r;
}

static const cpu_set_t *allowed(void)
{
	static cpu_set_t set;
	static bool known;

	if (!known)
		known = !sched_getaffinity(0, sizeof(set), &set);
	return &set;
}

void machine_pin(int cpu)
{
	cpu_set_t set = *allowed();

	if (cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET((size_t)cpu, &set);
	}
	sched_setaffinity(0, sizeof(set), &set);
}

void machine_processors(int *server, int *clients)
{
	const cpu_set_t *set = allowed();
	int found[2] = {-1, -1};

	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET((size_t)cpu, set)) {
			found[0] = found[0] < 0 ? cpu : found[0];
			found[1] = cpu;
		}
	*server = found[0] == found[1] ? -1 : found[0];
	*clients = found[0] == found[1] ? -1 : found[1];
}
