/* SPDX-License-Identifier: MIT */
/* --adopt: a server whose supervisor was killed. Its library tells how it was started, and gives what it holds. */
#define _GNU_SOURCE
#include "adopt.h"

#include "base/attr.h"
#include "base/io.h"
#include "client.h"
#include "launch.h"
#include "model/settings.h"
#include "own.h"
#include "proc.h"
#include "remote.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PATIENCE_MS = 5000 };

static bool refuse(struct text *why, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool refuse(struct text *why, const char *format, ...)
{
	va_list args;

	why->used = 0;
	va_start(args, format);
	text_vformat(why, format, args);
	va_end(args);
	return false;
}

/* ---- may it be adopted? ---- */

static bool has_supervisor(pid_t pid)
{
	cleanup_client struct client client = CLIENT_NONE;
	char unused[512];
	struct text gone = TEXT_ON(unused);

	return pid > 0 && !client_open(&client, pid, false, &gone) && client.supervisor;
}

static bool is_abandoned(const struct adopt *a, const char *status, struct text *why)
{
	int64_t owner = a->pid, supervisor = 0, arriving = 0;
	char gate[16] = "";

	protocol_get_int(status, "owner", &owner);
	protocol_get_int(status, "supervisor", &supervisor);
	protocol_get_int(status, "arriving", &arriving);
	protocol_get(status, "gate", gate, sizeof(gate));
	if (owner != a->pid)
		return refuse(why, "PID %d is a worker of PID %d: adopt that one", (int)a->pid, (int)owner);
	if (!supervisor)
		return refuse(why, "PID %d is in exec mode, and needs no supervisor: cprctl restart %d", (int)a->pid,
			      (int)a->pid);
	if (has_supervisor((pid_t)supervisor))
		return refuse(why, "PID %d still has its supervisor, PID %d: cprctl restart %d", (int)a->pid,
			      (int)supervisor, (int)supervisor);
	if (!strcmp(gate, "closed"))
		return refuse(why, "PID %d does not serve: it is an old generation, or one that never did, and ends by "
				   "itself", (int)a->pid);
	if (arriving)
		return refuse(why, "PID %d is starting: try again when it serves", (int)a->pid);
	return true;
}

/* An older library does not tell how it was started. */
static bool can_start(const struct adopt *a, struct text *why)
{
	if (a->start.given.path && *a->start.given.path && a->start.given.argv[0])
		return true;
	return refuse(why, "PID %d does not tell how it was started: its library is older than this cpr-exec",
		      (int)a->pid);
}

/*
 * Sockets that a manager gave it, an open directory: the next generation is to find them at the same numbers. Standard
 * input, output and error are those of this command.
 */
static void take_heirlooms(struct adopt *a)
{
	for (size_t i = 0; i < a->start.heirloom_count; i++) {
		const struct heirloom *theirs = &a->start.heirlooms[i];
		cleanup_fd int fd = theirs->fd > STDERR_FILENO ? remote_descriptor(a->pidfd, theirs->fd) : -1;
		struct stat st;

		if (fd < 0 || fstat(fd, &st) || st.st_dev != theirs->dev || st.st_ino != theirs->ino)
			continue; /* it has closed it, and gets it no more */
		if (fd == theirs->fd)
			steal_fd(&fd);
		else if (fcntl(theirs->fd, F_GETFD) >= 0 || dup2(fd, theirs->fd) < 0)
			continue; /* one of ours stands there */
		fcntl(theirs->fd, F_SETFD, 0);
		holdings_add_heirloom(&a->holdings, theirs->fd);
	}
}

/*
 * Only the server itself tells which user started it, and which program. So a server that has dropped root is checked:
 * if it was taken over, it would make root start a program of its choice.
 */
static bool is_believed(const struct adopt *a, struct text *why)
{
	struct proc proc;

	if (geteuid())
		return true;
	if (proc_read(a->pid, &proc))
		return refuse(why, "PID %d has ended", (int)a->pid);
	if (proc.uid == a->start.uid)
		return true;
	return refuse(why,
		      "PID %d says that user %u has started it, and runs as user %u: not believed. Start it anew",
		      (int)a->pid, (unsigned)a->start.uid, (unsigned)proc.uid);
}

bool adopt_take(struct adopt *a, pid_t pid, struct text *why)
{
	cleanup_answer struct answer answer = ANSWER_NONE;
	cleanup_client struct client client = CLIENT_NONE;
	int64_t generation = 1;

	*a = (struct adopt){.pid = pid, .pidfd = -1};
	if (holdings_begin(&a->holdings))
		return refuse(why, "no memory");
	if (client_open(&client, pid, true, why))
		return false;
	if (client.supervisor)
		return refuse(why, "PID %d is a supervisor itself: give the PID of a server that has lost its own",
			      (int)pid);
	if (client_call_again(&client, PROTOCOL_STATUS, io_now() + PATIENCE_MS * INT64_C(1000000), &answer, why))
		return false;
	if (!is_abandoned(a, answer.text, why))
		return false;
	protocol_get_int(answer.text, "generation", &generation);
	a->generation = (int)generation;
	a->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (a->pidfd < 0)
		return refuse(why, "PID %d: pidfd_open(2) failed: %s", (int)pid, strerror(errno));
	a->pidfd = io_move_up(a->pidfd, PROTOCOL_HIGH); /* low numbers are the server's */
	if (holdings_take_with_start(&a->holdings, pid, PATIENCE_MS, &a->start, why) || !can_start(a, why) ||
	    !is_believed(a, why))
		return false;
	take_heirlooms(a);
	return true;
}

/* ---- following ---- */

/* What is of the supervisor before, and of that one generation. */
static bool is_stale(const char *word)
{
	static const char *const names[] = {SETTINGS_SUPERVISOR, SETTINGS_STATE_FD, SETTINGS_GATE,
					    SETTINGS_ROLLBACK,   SETTINGS_PID,      "NOTIFY_SOCKET"};

	for (size_t i = 0; i < countof(names); i++)
		if (!strncmp(word, names[i], strlen(names[i])) && word[strlen(names[i])] == '=')
			return true;
	return false;
}

/* Its own environment; what this command line says comes after. */
static bool take_environment(const struct adopt *a)
{
	const char *manager = getenv("NOTIFY_SOCKET");
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	return !launch_environment(a->start.given.envp, is_stale) &&
	       (!manager || !setenv("NOTIFY_SOCKET", manager, 1)) &&
	       (!*a->start.given.directory || !setenv("PWD", a->start.given.directory, 1)) &&
	       (!getenv("LISTEN_PID") || !setenv("LISTEN_PID", pid, 1)); /* as the supervisor before had it */
}

/* A supervisor that was another user's has no more rights than that now. */
static bool become_user(const struct adopt *a)
{
	cleanup_free gid_t *groups = calloc(PROC_GROUPS_MAX, sizeof(*groups));
	int count = groups ? proc_groups(a->pid, groups, PROC_GROUPS_MAX) : -ENOMEM;
	struct proc proc;

	if (geteuid() || !a->start.uid)
		return true; /* is_believed: the kernel says so of the server too */
	errno = count < 0 ? -count : 0;
	if (count < 0 || proc_read(a->pid, &proc) || setgroups((size_t)count, groups) ||
	    setresgid(proc.gid, proc.gid, proc.gid) || setresuid(a->start.uid, a->start.uid, a->start.uid))
		return false;
	prctl(PR_SET_DUMPABLE, 1); /* cprctl, run by that user, looks into it */
	return true;
}

bool adopt_follow(const struct adopt *a, struct text *why)
{
	if (*a->start.given.directory && chdir(a->start.given.directory))
		return refuse(why, "its working directory, %s: %s", a->start.given.directory, strerror(errno));
	for (int kind = 0; kind < RLIM_NLIMITS; kind++) {
		struct rlimit limit;

		if (!prlimit(a->pid, kind, NULL, &limit))
			setrlimit(kind, &limit);
	}
	umask(a->start.given.umask);
	if (!take_environment(a))
		return refuse(why, "no memory");
	if (!become_user(a))
		return refuse(why, "the rights of user %u, which started PID %d: %s", (unsigned)a->start.uid,
			      (int)a->pid, strerror(errno));
	return true;
}

/* ---- telling ---- */

bool adopt_tell(const struct adopt *a, struct text *why)
{
	cleanup_client struct client client = CLIENT_NONE;
	cleanup_answer struct answer answer = ANSWER_NONE;

	return !client_call(&client, a->pid, PROTOCOL_ADOPT, io_now() + PATIENCE_MS * INT64_C(1000000), &answer, why);
}
