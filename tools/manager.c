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

/* Its first line is the reason, as a rule. */
static void explain(char *const argv[], int err, struct text *why)
{
	char *said = read_whole(err);

	text_format(why, "systemctl %s failed", argv[1]);
	if (said && *said) {
		said[strcspn(said, "\n")] = '\0';
		text_add(why, ": ");
		utf8_add_printable(why, said);
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
		text_add(why, "no memory");
		return -ENOMEM;
	}
	return 0;
}
