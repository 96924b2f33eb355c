/* SPDX-License-Identifier: MIT */
/*
 * The supervisor becomes its own new version. A child runs the file first, to find out whether it can take over. Then
 * this process execs it, with all that it knows.
 */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include "launch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROBE_MS = 5000, SETTLE_MS = 10000, WORD_SIZE = 32 };

static char own_path[PATH_MAX];

static bool is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* By the name that it was executed by: an upgrade may move a symbolic link there. Else by the file itself. */
void reexec_note_path(void)
{
	const char *given = (const char *)getauxval(AT_EXECFN);
	struct stat named, itself;
	char *gone;
	ssize_t n;

	n = readlink("/proc/self/exe", own_path, sizeof(own_path) - 1);
	own_path[n > 0 ? n : 0] = '\0';
	gone = strstr(own_path, " (deleted)");
	if (gone && !gone[10])
		*gone = '\0';
	if (given && *given == '/' && strlen(given) < sizeof(own_path) && strncmp(given, "/proc/", 6) &&
	    strncmp(given, "/dev/", 5) && !stat(given, &named) && !stat("/proc/self/exe", &itself) &&
	    is_same_file(&named, &itself))
		strcpy(own_path, given);
}

/* cpr-exec --resume=FD [--check] -- COMMAND...: the command is there for ps(1). */
static char **arguments(const struct supervisor *s, char word[WORD_SIZE], int state, bool check)
{
	static char name[] = "cpr-exec", only_check[] = "--check", end[] = "--";
	size_t count = 0, n = 0;
	char **all;

	while (s->options.argv[count])
		count++;
	all = calloc(count + 5, sizeof(*all));
	if (!all)
		return NULL;
	snprintf(word, WORD_SIZE, "--resume=%d", state);
	all[n++] = name;
	all[n++] = word;
	if (check)
		all[n++] = only_check;
	all[n++] = end;
	memcpy(all + n, s->options.argv, count * sizeof(*all));
	return all;
}

static void stop(struct supervisor *s)
{
	io_close(&s->reexec.output);
	s->reexec = (struct reexec){.output = -1};
}

void reexec_call_off(struct supervisor *s, const char *why)
{
	if (s->reexec.output < 0)
		return;
	if (s->reexec.probe > 0)
		kill(s->reexec.probe, SIGKILL); /* reaped as a child that is no generation's */
	stop(s);
	supervisor_say("%s was not executed: %s", own_path, why);
	callers_reexeced(s, why);
}

/* ---- asking first ---- */

__attribute__((noreturn)) static void probe(const struct supervisor *s, const int memfds[2], int output)
{
	char word[WORD_SIZE], **argv = arguments(s, word, memfds[0], true);
	int null = open("/dev/null", O_RDONLY);

	if (!argv || null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
	    dup2(output, STDERR_FILENO) < 0 || launch_no_preload())
		_exit(1);
	fcntl(memfds[0], F_SETFD, 0);
	fcntl(memfds[1], F_SETFD, 0);
	sigprocmask(SIG_SETMASK, &s->recipe.mask, NULL);
	execv(own_path, argv);
	dprintf(STDERR_FILENO, "%s", strerror(errno));
	_exit(1);
}

int reexec_begin(struct supervisor *s, struct text *why)
{
	struct saver saver = {0};
	int memfds[2] = {-1, -1}, r = 0;

	if (s->ending)
		text_add(why, "the supervisor is about to end");
	else if (handover_under_way(s))
		text_add(why, "a restart is under way");
	else if (s->reexec.output >= 0)
		text_add(why, "it is under way already");
	else if (stat(own_path, &s->reexec.file))
		text_format(why, "%s: %s", own_path, strerror(errno));
	if (why->used)
		return -EBUSY;
	s->reexec.output = io_memfd("probe");
	r = s->reexec.output < 0 ? s->reexec.output : knowledge_write(s, &saver, memfds);
	if (!r) {
		s->reexec.probe = fork();
		if (!s->reexec.probe)
			probe(s, memfds, s->reexec.output);
		r = s->reexec.probe < 0 ? -errno : 0;
	}
	io_close(&memfds[0]);
	io_close(&memfds[1]);
	saver_free(&saver);
	s->reexec.until = io_now() + PROBE_MS * MS;
	if (r) {
		text_format(why, "%s cannot be tried: %s", own_path, strerror(-r));
		stop(s);
	}
	return r;
}

/* What it said, in one line. */
static void add_words(int output, int status, struct text *why)
{
	char said[512];
	ssize_t n = lseek(output, 0, SEEK_SET) ? -1 : io_read_all(output, said, sizeof(said) - 1);

	said[n > 0 ? n : 0] = '\0';
	said[strcspn(said, "\n")] = '\0';
	if (*said)
		text_add(why, said);
	else if (WIFSIGNALED(status))
		text_format(why, "it was ended by signal %d", WTERMSIG(status));
	else
		text_format(why, "it ended with status %d", WEXITSTATUS(status));
}

void reexec_probed(struct supervisor *s, int status)
{
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);

	s->reexec.probe = 0;
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		text_format(&why, "%s cannot take over: ", own_path);
		add_words(s->reexec.output, status, &why);
		reexec_call_off(s, reason);
		return;
	}
	s->reexec.proven = true;
	s->reexec.until = io_now() + SETTLE_MS * MS;
}

/* ---- the exec ---- */

/* What is on its way through this process must have arrived; a signal too. */
static bool is_settled(const struct supervisor *s)
{
	return !handover_under_way(s) && !s->has_pending && !s->store.carried_count && !s->noted_count;
}

/* A check that runs would be the next image's child: the next one is made a second later. */
static void end_check(struct supervisor *s)
{
	if (s->watch.check > 0) {
		kill(s->watch.check, SIGKILL);
		s->watch.check = 0;
		s->watch.at = io_now() + SECOND;
	}
	io_close(&s->watch.output);
	s->watch.output = -1;
}

/* Returns only if it failed: then all is as before. */
static void execute(struct supervisor *s, struct text *why)
{
	const char *preload = getenv("LD_PRELOAD");
	cleanup_free char *before = preload ? strdup(preload) : NULL, **argv = NULL;
	struct saver saver = {0};
	int memfds[2] = {-1, -1}, r;
	char word[WORD_SIZE];

	end_check(s);
	r = knowledge_write(s, &saver, memfds);
	if (!r)
		argv = arguments(s, word, memfds[0], false);
	if (!r && argv && !launch_no_preload()) {
		saver_keep_open(&saver, true);
		holdings_keep_open(&s->holdings, true);
		fcntl(memfds[0], F_SETFD, 0);
		execv(own_path, argv);
		r = -errno;
		saver_keep_open(&saver, false);
		holdings_keep_open(&s->holdings, false);
		if (before)
			setenv("LD_PRELOAD", before, 1);
	}
	text_format(why, "%s: %s", own_path, strerror(r ? -r : ENOMEM));
	io_close(&memfds[0]);
	io_close(&memfds[1]);
	saver_free(&saver);
}

void reexec_tick(struct supervisor *s, int64_t now)
{
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);
	struct stat file;

	if (s->reexec.output < 0)
		return;
	if (s->reexec.proven && is_settled(s)) {
		if (stat(own_path, &file) || !is_same_file(&file, &s->reexec.file))
			text_format(&why, "%s was changed while it was tried", own_path);
		else
			execute(s, &why);
		reexec_call_off(s, reason);
	} else if (now >= s->reexec.until) {
		text_format(&why, s->reexec.proven ? "a restart is under way" : "%s gave no answer in 5 s", own_path);
		reexec_call_off(s, reason);
	}
}

int64_t reexec_due(const struct supervisor *s)
{
	if (s->reexec.output < 0)
		return 0;
	return s->reexec.proven && is_settled(s) ? io_now() : s->reexec.until;
}
