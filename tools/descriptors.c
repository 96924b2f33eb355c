/* SPDX-License-Identifier: MIT */
/* Every open descriptor of a process: /proc's list, the process's tags, and the rules that it was started with. */
#define _GNU_SOURCE
#include "descriptors.h"

#include "base/attr.h"
#include "base/fds.h"
#include "base/io.h"
#include "model/protocol.h"
#include "model/rules.h"
#include "model/settings.h"
#include "own.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- the rules ---- */

/* The value of this variable at the process's start; the caller's to free. NULL: it is not set. */
static char *variable_of(pid_t pid, const char *name)
{
	char path[64], *word = NULL, *value = NULL;
	size_t room = 0, n = strlen(name);
	cleanup_file FILE *file = NULL;

	snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	file = fopen(path, "re");
	while (file && !value && getdelim(&word, &room, '\0', file) > 0)
		if (!strncmp(word, name, n) && word[n] == '=')
			value = strdup(word + n + 1);
	free(word);
	return value;
}

static void add_rule(struct text *t, const struct rules *rules, int which)
{
	if (which < 0)
		text_add(t, "the default");
	else
		text_format(t, "rule %d: %s %s", which + 1, rules->rule[which].verb == RULE_KEEP ? "keep" : "drop",
			    rules->rule[which].glob);
}

/* ---- one descriptor ---- */

struct walk {
	pid_t pid;
	const struct state *state;
	const struct rules *rules;
	struct descriptors *all;
};

static int flags_of(pid_t pid, int fd)
{
	char path[64], text[1024], *at;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)pid, fd);
	if (io_read_file(path, text, sizeof(text)) <= 0)
		return 0;
	at = strstr(text, "flags:");
	return at ? (int)strtol(at + strlen("flags:"), NULL, 8) : 0;
}

/*
 * A file that is opened twice has one inode, and so have both ends of a pipe: only the kernel tells whether two numbers
 * are of one open file. Where it may not be asked, a socket's inode does.
 */
static bool is_dup(pid_t pid, int fd, int other, const struct stat *st)
{
	long r = syscall(SYS_kcmp, pid, pid, KCMP_FILE, fd, other);

	return !r || (r < 0 && S_ISSOCK(st->st_mode));
}

/* The entry at this number, or of the same open file at another one (dup). */
static const struct entry *entry_of(pid_t pid, const struct table *table, int fd, const struct stat *st)
{
	const struct entry *same = NULL;

	for (const struct entry *e = table_first(table); e; e = table_after(e)) {
		if (e->object.dev != st->st_dev || e->object.ino != st->st_ino)
			continue;
		if (e->fd == fd)
			return e;
		if (!same && is_dup(pid, fd, e->fd, st))
			same = e;
	}
	return same;
}

static bool is_heirloom(const struct state *state, int fd, const struct stat *st)
{
	for (size_t i = 0; i < state->heirloom_count; i++)
		if (state->heirlooms[i].fd == fd && state->heirlooms[i].dev == st->st_dev &&
		    state->heirlooms[i].ino == st->st_ino)
			return true;
	return false;
}

/* Its own memfds, and what it has put above the numbers that a program uses. */
static bool is_ours(const struct descriptor *d)
{
	return !strncmp(d->what, "/memfd:cpr", strlen("/memfd:cpr")) || (d->fd >= PROTOCOL_HIGH && d->cloexec);
}

static void judge_entry(struct descriptor *d, const struct rules *rules, struct text *t)
{
	const struct entry *e = d->entry;

	d->kept = e->flags & ENTRY_KEPT;
	if (e->flags & ENTRY_ORPHAN)
		text_add(t, "orphan, ");
	else if (e->flags & ENTRY_INHERITED)
		text_add(t, "inherited, ");
	if (d->fd != e->fd)
		text_format(t, "the same as %d, ", e->fd);
	if (!d->kept && e->kind == ENTRY_STREAM && !(e->flags & ENTRY_LISTENING) && rules_which(rules, e) < 0)
		text_add(t, "it does not listen");
	else
		add_rule(t, rules, rules_which(rules, e));
}

static void judge(struct descriptor *d, const struct walk *walk, const struct stat *st)
{
	struct text t = TEXT_ON(d->why);

	d->entry = entry_of(walk->pid, walk->state->table, d->fd, st);
	d->kept = is_heirloom(walk->state, d->fd, st);
	if (d->kept)
		text_add(&t, "given at the start, as to every generation");
	else if (d->entry)
		judge_entry(d, walk->rules, &t);
	else if (is_ours(d))
		text_add(&t, "cpr's own");
	else if (S_ISSOCK(st->st_mode))
		text_add(&t, "no name: a connection, which is carried or ends by itself");
	else if (S_ISREG(st->st_mode))
		text_add(&t, "the default: files are kept by rule only");
	else
		text_add(&t, "no name");
}

/* ---- all of them ---- */

static void add(int fd, void *arg)
{
	struct walk *walk = arg;
	struct descriptors *all = walk->all;
	struct descriptor *longer = reallocarray(all->of, all->count + 1, sizeof(*longer));
	char path[64];
	struct stat st;
	ssize_t n;

	if (!longer)
		err(EXIT_FAILURE, NULL);
	all->of = longer;
	longer += all->count;
	*longer = (struct descriptor){.fd = fd, .cloexec = flags_of(walk->pid, fd) & O_CLOEXEC};
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)walk->pid, fd);
	n = readlink(path, longer->what, sizeof(longer->what) - 1);
	if (n < 0 || stat(path, &st)) /* it was closed meanwhile */
		return;
	longer->what[n] = '\0';
	judge(longer, walk, &st);
	all->count++;
}

static int by_number(const void *a, const void *b)
{
	return ((const struct descriptor *)a)->fd - ((const struct descriptor *)b)->fd;
}

bool descriptors_of(pid_t pid, const struct state *state, struct descriptors *all, struct text *why)
{
	char path[64];
	const char *bad;
	cleanup_free char *text = variable_of(pid, SETTINGS_RULES);
	cleanup_free struct rules *rules = calloc(1, sizeof(*rules));
	struct walk walk = {pid, state, rules, all};

	if (!rules)
		err(EXIT_FAILURE, NULL);
	if (text)
		rules_parse(rules, text, &bad); /* what is wrong in it the process has said */
	*all = (struct descriptors){0};
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	if (!fds_walk_in(path, add, &walk)) {
		text_format(why, "%s cannot be read: %s", path, strerror(errno));
		return false;
	}
	qsort(all->of, all->count, sizeof(*all->of), by_number);
	return true;
}
