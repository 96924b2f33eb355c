/* SPDX-License-Identifier: MIT */
/* The service manager, asked through systemctl(1). */
#define _GNU_SOURCE
#include "manager.h"

#include "base/io.h"
#include "utf8.h"

#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Starts it, with its words in files: it never waits for a reader. */
static int start(char *const argv[], int out, int err, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	int r = posix_spawn_file_actions_init(&actions);

	if (r)
		return -r;
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
	r = posix_spawnp(pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

static char *read_whole(int fd)
{
	struct stat st;
	char *text;
	ssize_t n;

	if (fstat(fd, &st) || lseek(fd, 0, SEEK_SET) || !(text = malloc((size_t)st.st_size + 1)))
		return NULL;
	n = io_read_all(fd, text, (size_t)st.st_size);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

/* The reason is systemctl's first line, and cprctl's last one, behind what the server said. */
static char *reason_in(char *said, bool first)
{
	size_t n = strlen(said);
	char *line;

	while (n && said[n - 1] == '\n')
		said[--n] = '\0';
	line = first ? NULL : strrchr(said, '\n');
	said[strcspn(said, first ? "\n" : "")] = '\0';
	return line ? line + 1 : said;
}

static void explain(char *const argv[], int err, struct text *why)
{
	char *said = read_whole(err);
	const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];

	text_format(why, slash ? "%s %s" : "%s %s failed", name, argv[1]); /* cprctl says itself that it failed */
	if (said && *said) {
		char *line = reason_in(said, !slash);
		size_t n = strlen(name);

		if (!strncmp(line, name, n) && !strncmp(line + n, ": ", 2))
			line += n + 2;
		text_add(why, ": ");
		utf8_add_printable(why, line);
	}
	free(said);
}

int manager_ask(char *const argv[], char **out, struct text *why)
{
	cleanup_fd int said = io_memfd("systemctl-out"), err = io_memfd("systemctl-err");
	int status = 0, r = said < 0 ? said : err < 0 ? err : 0;
	pid_t pid;

	if (!r)
		r = start(argv, said, err, &pid);
	if (r) {
		if (r == -ENOENT)
			text_add(why, "there is no systemctl: this machine is not run by systemd");
		else
			text_format(why, "systemctl cannot be run: %s", strerror(-r));
		return r;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	if (status) {
		explain(argv, err, why);
		return -ECANCELED;
	}
	if (out && !(*out = read_whole(said))) {
		text_add(why, "out of memory");
		return -ENOMEM;
	}
	return 0;
}
