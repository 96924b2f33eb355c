/* SPDX-License-Identifier: MIT */
/* Runs the command that must succeed before a restart. */
#define _GNU_SOURCE
#include "trial.h"

#include "base/io.h"
#include "proc.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOT_STARTED = 125 }; /* the child's status when it never came to sh; its stderr says why */

/* In the child: ends it if something is in the way, since a test by the wrong user proves nothing. */
static void become(pid_t pid, uid_t uid, gid_t gid)
{
	gid_t groups[PROC_GROUPS_MAX];
	int count = proc_groups(pid, groups, PROC_GROUPS_MAX);

	if (count >= 0 && !setgroups((size_t)count, groups) && !setresgid(gid, gid, gid) && !setresuid(uid, uid, uid))
		return;
	fprintf(stderr, "cannot become the user of PID %d: %s\n", (int)pid, strerror(count < 0 ? -count : errno));
	_exit(NOT_STARTED);
}

static void run(const char *command, const char *directory, int output)
{
	int null = open("/dev/null", O_RDONLY);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
	    dup2(output, STDERR_FILENO) < 0)
		_exit(NOT_STARTED);
	if (*directory && chdir(directory)) {
		fprintf(stderr, "%s: %s\n", directory, strerror(errno));
		_exit(NOT_STARTED);
	}
	signal(SIGPIPE, SIG_DFL); /* ignored ones would stay so */
	execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	fprintf(stderr, "/bin/sh: %s\n", strerror(errno));
	_exit(NOT_STARTED);
}

/* The child's wait status, or -ETIME: it was killed. */
static int wait_for(pid_t child, int64_t until)
{
	cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	struct pollfd on = {.fd = pidfd, .events = POLLIN};
	bool late = false;
	int status, n;

	do {
		int64_t left = until - io_now();

		n = poll(&on, 1, left > 0 ? (int)((left + 999999) / 1000000) : 0);
	} while (n < 0 && errno == EINTR);
	if (n == 0) {
		late = true;
		kill(child, SIGKILL);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return late ? -ETIME : status;
}

/* What the command said, to our stderr. */
static void show_output(int output)
{
	char bytes[4096];
	ssize_t n;

	if (lseek(output, 0, SEEK_SET))
		return;
	while ((n = io_read_all(output, bytes, sizeof(bytes))) > 0)
		io_write_all(STDERR_FILENO, bytes, (size_t)n);
}

int trial_run(const char *command, const char *directory, pid_t pid, uid_t uid, gid_t gid, int64_t until,
	      struct text *why)
{
	cleanup_fd int output = io_memfd("output"); /* a pipe would have to be emptied meanwhile */
	pid_t child;
	int status;

	fflush(NULL);
	child = output < 0 ? -1 : fork();
	if (child < 0) {
		int error = output < 0 ? -output : errno;

		text_format(why, "the test cannot be run: %s", strerror(error));
		return -error;
	}
	if (!child) {
		if (dup2(output, STDERR_FILENO) >= 0 && geteuid() == 0)
			become(pid, uid, gid);
		run(command, directory, output);
	}
	status = wait_for(child, until);
	if (status == 0)
		return 0;
	show_output(output);
	if (status == -ETIME)
		text_format(why, "the test `%s` took too long", command);
	else if (status < 0)
		text_format(why, "the test `%s`: %s", command, strerror(-status));
	else if (WIFSIGNALED(status))
		text_format(why, "the test `%s` was ended by signal %d", command, WTERMSIG(status));
	else
		text_format(why, "the test `%s` failed with exit status %d", command, WEXITSTATUS(status));
	return -ECANCELED;
}
