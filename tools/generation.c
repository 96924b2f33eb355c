/* SPDX-License-Identifier: MIT */
/* Starts a generation as the supervisor itself was started, and knows its processes. */
#define _GNU_SOURCE
#include "generation.h"

#include "base/attr.h"
#include "base/io.h"
#include "model/settings.h"
#include "own.h"
#include "proc.h"
#include "seccomp_filter.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOT_EXECUTABLE = 126, NOT_FOUND = 127, DEPTH_MAX = 64 };

/* ---- starting ---- */

static void set_number(const char *name, long number)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%ld", number);
	setenv(name, digits, 1);
}

static void set_environment(const struct recipe *recipe, int state, bool gated, pid_t supervisor)
{
	const char *listen = getenv("LISTEN_PID"), *watchdog = getenv("WATCHDOG_PID");
	char word[64];

	if (recipe->notify)
		setenv("NOTIFY_SOCKET", recipe->notify, 1);
	if (listen && atol(listen) == supervisor) /* sockets that a manager gave us are the server's */
		set_number("LISTEN_PID", getpid());
	if (watchdog && atol(watchdog) == supervisor) /* and what it says of its health is passed on */
		set_number("WATCHDOG_PID", getpid());
	if (recipe->filtered) /* the library is not in it */
		return;
	snprintf(word, sizeof(word), "%d:%llx", (int)supervisor, (unsigned long long)recipe->nonce);
	setenv(SETTINGS_SUPERVISOR, word, 1);
	set_number(SETTINGS_PID, getpid());
	if (state >= 0)
		set_number(SETTINGS_STATE_FD, state);
	if (gated)
		setenv(SETTINGS_GATE, "closed", 1);
	else
		unsetenv(SETTINGS_GATE);
	if (recipe->comes_back)
		setenv(SETTINGS_ROLLBACK, "1", 1);
}

/* In the child: installs the filter, and sends its descriptor to the supervisor. */
static void put_filter(const struct recipe *recipe, int line)
{
	cleanup_fd int notices = recipe->filtered ? seccomp_filter_install() : -1;

	if (!recipe->filtered || (notices >= 0 && !io_send(line, "", 1, notices)))
		return;
	warnx("%s: no seccomp filter can be put on it, which takes Linux 5.9: %s", recipe->path,
	      strerror(notices < 0 ? -notices : errno));
	_exit(NOT_EXECUTABLE);
}

/* In the supervisor. 0, or -errno. */
static int await_filter(int line, int *notices)
{
	char byte;
	ssize_t n = io_receive(line, &byte, 1, notices);

	return n < 0 ? (int)n : *notices < 0 ? -ENOTSUP : 0;
}

bool generation_is_apart(void)
{
	static int apart = -1;

	if (apart < 0) {
		cleanup_fd int terminal = open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC); /* whatever stdin is */

		apart = terminal < 0 || tcgetpgrp(terminal) != getpgrp();
	}
	return apart;
}

/*
 * Each generation has a process group of its own. A master that ends its workers by kill(0, SIGTERM), as lighttpd's
 * does, would also end the supervisor and the next generation. It leads the group exactly if it would without a
 * supervisor: a group leader cannot call setsid(2). A group without a leader is begun by a process that ends at once;
 * the kernel keeps its number. Returns that process, or 0.
 */
static pid_t begin_group(void)
{
	pid_t leader;

	if (getpgrp() == getpid())
		return 0;
	leader = fork();
	if (!leader) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	if (leader > 0)
		setpgid(leader, leader);
	return leader > 0 ? leader : 0;
}

static void end_leader(pid_t leader)
{
	if (leader && !kill(leader, SIGKILL))
		waitpid(leader, NULL, 0);
}

__attribute__((noreturn)) static void become(const struct recipe *recipe, const struct holdings *holdings, int state,
					     bool gated, int writer, int line, pid_t supervisor)
{
	int error;

	set_environment(recipe, state, gated, supervisor);
	if (recipe->directory && chdir(recipe->directory))
		warn("%s", recipe->directory);
	if (state >= 0) {
		holdings_keep_open(holdings, true);
		fcntl(state, F_SETFD, 0);
	}
	if (writer >= 0)
		dup2(writer, STDERR_FILENO);
	setrlimit(RLIMIT_NOFILE, &recipe->files);
	sigprocmask(SIG_SETMASK, &recipe->mask,
		    NULL); /* but for the doorbell: a ring before it is hung would end the program */
	put_filter(recipe, line);
	execv(recipe->path, recipe->argv);
	error = errno;
	warnx("%s: %s", recipe->path, strerror(error));
	_exit(error == ENOENT ? NOT_FOUND : NOT_EXECUTABLE);
}

struct generation *generation_new(void)
{
	struct generation *g = calloc(1, sizeof(*g));

	if (g)
		g->take = g->passing.listener = g->notices = g->pidfd = -1;
	return g;
}

struct generation *generation_start(const struct recipe *recipe, const struct holdings *holdings, int state, bool gated,
				    bool watched, struct text *why)
{
	struct generation *g = generation_new();
	pid_t supervisor = getpid();
	cleanup_fd int writer = -1, here = -1, there = -1;
	int r = g ? 0 : -ENOMEM, pair[2];

	if (!r && recipe->filtered) {
		r = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) ? -errno : 0;
		here = r ? -1 : pair[0];
		there = r ? -1 : pair[1];
	}
	if (!r && watched)
		r = tail_open(&g->tail, &writer);
	if (!r) {
		bool apart = generation_is_apart();
		pid_t leader = apart ? begin_group() : 0;

		fflush(NULL);
		g->started = fork();
		if (!g->started) {
			if (apart)
				setpgid(0, leader);
			become(recipe, holdings, state, gated, writer, there, supervisor);
		}
		r = g->started < 0 ? -errno : 0;
		if (!r && apart)
			setpgid(g->started, leader); /* the leader must not end before that */
		end_leader(leader);
	}
	io_close(&there);
	there = -1;
	if (!r && recipe->filtered)
		r = await_filter(here, &g->notices);

	if (r) {
		text_format(why, "the next generation cannot be started: %s", strerror(-r));
		generation_free(g);
		return NULL;
	}
	g->owner = g->started;
	g->started_at = io_now();
	g->phase = gated ? GENERATION_GATED : GENERATION_SERVING;
	return g;
}

void generation_free(struct generation *g)
{
	if (!g)
		return;
	io_close(&g->take);
	generation_stop_passing(g);
	tail_close(&g->tail);
	io_close(&g->notices);
	io_close(&g->pidfd);
	bounds_free(&g->bounds);
	free(g->members);
	free(g->apart);
	free(g);
}

/* ---- its processes ---- */

int generation_signal(struct generation *g, int signo)
{
	pid_t pid = g->owner > 0 ? g->owner : g->started;

	if (g->search_until) {
		g->owed |= UINT64_C(1) << (signo - 1);
		return 0;
	}
	if (pid <= 0)
		return -ESRCH;
	if (g->pidfd >= 0) /* its pid may be another's by now */
		return syscall(SYS_pidfd_send_signal, g->pidfd, signo, NULL, 0) ? -errno : 0;
	return kill(pid, signo) ? -errno : 0;
}

void generation_found(struct generation *g, pid_t owner)
{
	uint64_t owed = g->owed;

	g->owner = owner;
	g->search_until = 0;
	g->owed = 0;
	for (int signo = 1; owed; signo++, owed >>= 1)
		if (owed & 1)
			generation_signal(g, signo);
}

struct kin {
	pid_t pid, parent;
};

/* All processes with their parents. The array is the caller's. */
static struct kin *all_kin(size_t *count)
{
	cleanup_free pid_t *pids = proc_pids(count);
	struct kin *kin = calloc(*count + 1, sizeof(*kin));

	for (size_t i = 0; kin && i < *count; i++)
		kin[i] = (struct kin){pids[i], proc_parent(pids[i])};
	return kin;
}

static pid_t parent_of(const struct kin *kin, size_t count, pid_t pid)
{
	for (size_t i = 0; i < count; i++)
		if (kin[i].pid == pid)
			return kin[i].parent;
	return 0;
}

static bool descends(const struct kin *kin, size_t count, pid_t pid, const struct generation *g)
{
	for (int depth = 0; pid > 1 && depth < DEPTH_MAX; depth++, pid = parent_of(kin, count, pid))
		if (pid == g->owner || pid == g->started)
			return true;
	return false;
}

static void add_member(struct generation *g, pid_t pid)
{
	struct member *longer;
	uint64_t start_time = proc_start_ticks(pid);

	for (size_t i = 0; i < g->member_count; i++)
		if (g->members[i].pid == pid && g->members[i].start_time == start_time)
			return;
	longer = start_time ? reallocarray(g->members, g->member_count + 1, sizeof(*longer)) : NULL;
	if (!longer)
		return;
	g->members = longer;
	longer[g->member_count++] = (struct member){pid, start_time};
}

void generation_add_apart(struct generation *g, pid_t pid)
{
	pid_t *longer;

	for (size_t i = 0; i < g->apart_count; i++)
		if (g->apart[i] == pid)
			return;
	longer = reallocarray(g->apart, g->apart_count + 1, sizeof(*longer));
	if (!longer)
		return;
	g->apart = longer;
	longer[g->apart_count++] = pid;
}

void generation_note_members(struct generation *g)
{
	size_t count;
	cleanup_free struct kin *kin = all_kin(&count);

	for (size_t i = 0; kin && i < count; i++)
		if (descends(kin, count, kin[i].pid, g))
			add_member(g, kin[i].pid);
}

static bool is_alive(pid_t pid)
{
	struct proc proc;

	return !proc_read(pid, &proc) && proc.state != 'Z';
}

static bool lives(const struct member *member)
{
	return proc_start_ticks(member->pid) == member->start_time && is_alive(member->pid);
}

size_t generation_signal_members(const struct generation *g, int signo)
{
	size_t alive = 0;

	for (size_t i = 0; i < g->member_count; i++) {
		if (!lives(&g->members[i]))
			continue;
		alive++;
		if (signo)
			kill(g->members[i].pid, signo);
	}
	return alive;
}

static bool has_line(const struct passing *p, pid_t pid)
{
	for (size_t i = 0; i < p->count; i++)
		if (p->lines[i].pid == pid)
			return true;
	return false;
}

size_t generation_without_line(struct generation *g)
{
	struct proc_page owners, page;
	size_t count = 0;

	if (proc_page(g->owner, &owners))
		owners.ino = 0; /* it is gone, or may not be read: then all that live may be of its program */
	generation_note_members(g);
	for (size_t i = 0; i < g->member_count; i++) {
		int r = has_line(&g->passing, g->members[i].pid) || !lives(&g->members[i])
				? -ESRCH
				: proc_page(g->members[i].pid, &page);

		count += r == -EACCES || r == -EPERM || (!r && (!owners.ino || page.ino == owners.ino));
	}
	return count;
}

bool generation_is_mute(const struct line *line)
{
	return line->fd < 0 && !line->known && is_alive(line->pid);
}

bool generation_has(const struct generation *g, pid_t pid)
{
	return (g->owner > 0 && proc_descends(pid, g->owner)) || (g->started > 0 && proc_descends(pid, g->started));
}

bool generation_has_had(const struct generation *g, pid_t pid)
{
	uint64_t now = proc_start_ticks(pid); /* 0: it is gone */

	for (size_t i = 0; i < g->member_count; i++)
		if (g->members[i].pid == pid && (!now || now == g->members[i].start_time))
			return true;
	return generation_has(g, pid);
}

struct generation *generation_find(struct generation *all, pid_t pid)
{
	for (struct generation *g = all; g; g = g->next)
		if (!g->ended && (g->owner == pid || g->started == pid))
			return g;
	for (struct generation *g = all; g; g = g->next)
		if (!g->ended && generation_has(g, pid))
			return g;
	return NULL;
}

int64_t generation_left(const struct generation *g)
{
	int64_t left = g->helpers;

	if (!g->passing.count || g->passing.mute)
		return -1;
	for (size_t i = 0; i < g->passing.count; i++) {
		const struct line *line = &g->passing.lines[i];

		if (generation_is_mute(line))
			return -1;
		left += line->fd >= 0 ? line->left : 0;
	}
	return left;
}

void generation_stop_passing(struct generation *g)
{
	for (size_t i = 0; i < g->passing.count; i++)
		io_close(&g->passing.lines[i].fd);
	free(g->passing.lines);
	io_close(&g->passing.listener);
	g->passing = (struct passing){.listener = -1};
}

const char *generation_phase_word(const struct generation *g)
{
	static const char *const words[] = {"behind the gate", "serving",  "kept for rollback",
					    "draining",        "retiring", "failed"};

	return words[g->phase];
}
