/* SPDX-License-Identifier: MIT */
/* Locks: a next generation that waits for one that the last generation holds waits for its end, and never for work. */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include "base/fds.h"
#include "base/io.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum {
	LOOK_MS = 200,
	PATIENCE_MS = 1500, /* a lock that is held for a moment only, of a log or a database */
};

/* A line of /proc/locks: 3: -> FLOCK ADVISORY WRITE 4242 fe:00:12345 0 EOF */
struct lock {
	int number, pid;
	bool waits;
	unsigned major, minor;
	unsigned long ino;
};

static bool lock_read(const char *line, struct lock *lock)
{
	char arrow[8] = "", kind[16], mandatory[16], mode[16];
	int n = 0;

	*lock = (struct lock){0};
	if (sscanf(line, "%d: %7s %n", &lock->number, arrow, &n) < 2)
		return false;
	lock->waits = !strcmp(arrow, "->");
	if (!lock->waits)
		n = (int)(strchr(line, ':') + 1 - line);
	return sscanf(line + n, "%15s %15s %15s %d %x:%x:%lu", kind, mandatory, mode, &lock->pid, &lock->major,
		      &lock->minor, &lock->ino) == 7;
}

/* The first process of g that waits for what none of g holds: workers wait for each other, to accept in turns. */
static bool find_waiting(const struct generation *g, struct lock *waiting, int *holder)
{
	FILE *locks = fopen("/proc/locks", "re");
	struct lock held = {0};
	char line[256];
	bool found = false;

	while (locks && !found && fgets(line, sizeof(line), locks)) {
		if (!lock_read(line, waiting))
			continue;
		if (!waiting->waits)
			held = *waiting;
		else
			found = held.number == waiting->number && waiting->pid > 0 &&
				generation_has(g, waiting->pid) && !(held.pid > 0 && generation_has(g, held.pid));
	}
	if (locks)
		fclose(locks);
	*holder = held.pid;
	return found;
}

/* ---- which file that is ---- */

static bool file_at(pid_t pid, int number, struct stat *st)
{
	char link[64];

	snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)pid, number);
	return !stat(link, st) && S_ISREG(st->st_mode);
}

static void path_at(pid_t pid, int number, char *path, size_t size)
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)pid, number);
	n = readlink(link, path, size - 1);
	path[n > 0 ? n : 0] = '\0';
}

static void walk_descriptors(pid_t pid, void (*each)(int number, void *arg), void *arg)
{
	char directory[64];

	snprintf(directory, sizeof(directory), "/proc/%d/fd", (int)pid);
	fds_walk_in(directory, each, arg);
}

struct named {
	const struct lock *lock;
	char path[256];
};

static void compare_with_lock(int number, void *arg)
{
	struct named *named = arg;
	struct stat st;

	if (!*named->path && file_at(named->lock->pid, number, &st) && st.st_ino == named->lock->ino &&
	    st.st_dev == makedev(named->lock->major, named->lock->minor))
		path_at(named->lock->pid, number, named->path, sizeof(named->path));
}

static void tell_waiting(const struct lock *waiting, int holder, struct text *why)
{
	struct named named = {.lock = waiting};

	walk_descriptors(waiting->pid, compare_with_lock, &named);
	text_format(why, "the next generation, PID %d, waits for a lock that ", waiting->pid);
	if (holder > 0)
		text_format(why, "PID %d holds", holder);
	else
		text_add(why, "another process holds");
	if (*named.path)
		text_format(why, " (%s)", named.path);
	text_add(why, ". It cannot run twice at a time: use --one-at-a-time or exec mode for it");
}

bool locks_hinder(struct supervisor *s)
{
	struct handover *h = &s->handover;
	char reason[2 * REASON_SIZE];
	struct text why = TEXT_ON(reason);
	int64_t now = io_now();
	struct lock waiting;
	int holder;

	if (s->options.one_at_a_time || h->waits_for_end || !h->next || !find_waiting(h->next, &waiting, &holder)) {
		h->locked_at = 0;
		return false;
	}
	h->locked_at = h->locked_at ? h->locked_at : now;
	if (now - h->locked_at < PATIENCE_MS * MS)
		return true;
	tell_waiting(&waiting, holder, &why);
	handover_fail(s, reason);
	return true;
}

/* While it starts: it may wait before it has bound anything. */
void locks_tick(struct supervisor *s, int64_t now)
{
	struct handover *h = &s->handover;

	if (h->phase != HANDOVER_STARTING || now < h->locks_at)
		return;
	h->locks_at = now + LOOK_MS * MS;
	locks_hinder(s);
}

int64_t locks_due(const struct supervisor *s)
{
	return s->handover.phase == HANDOVER_STARTING ? s->handover.locks_at : 0;
}

/* ---- one that tries it again and again waits in no call that the kernel would show ---- */

struct search {
	pid_t waiter, holder;
	struct stat locked;
	char *path;
	size_t size;
	bool found;
};

/* "lock:	1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF" */
static bool is_locked(pid_t pid, int number)
{
	char name[64], text[4096];
	const char *lock;
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/%d/fdinfo/%d", (int)pid, number);
	n = io_read_file(name, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	lock = strstr(text, "\nlock:");
	return lock && strstr(lock, " WRITE ");
}

static void compare_with_held(int number, void *arg)
{
	struct search *search = arg;
	struct stat st;

	search->found |= file_at(search->waiter, number, &st) && st.st_dev == search->locked.st_dev &&
			 st.st_ino == search->locked.st_ino;
}

static void look_at_held(int number, void *arg)
{
	struct search *search = arg;

	if (search->found || !file_at(search->holder, number, &search->locked) || !is_locked(search->holder, number))
		return;
	walk_descriptors(search->waiter, compare_with_held, search);
	if (search->found)
		path_at(search->holder, number, search->path, search->size);
}

bool locks_keep_out(pid_t waiter, pid_t holder, char *path, size_t size)
{
	struct search search = {.waiter = waiter, .holder = holder, .path = path, .size = size};

	walk_descriptors(holder, look_at_held, &search);
	return search.found;
}
