/* SPDX-License-Identifier: MIT */
/* Listeners that a service manager has passed by number, for a program that binds their address. */
#define _GNU_SOURCE
#include "fd/offered.h"

#include "base/guarded.h"
#include "base/next.h"
#include "base/text.h"
#include "fd/entry.h"
#include "fd/tagging.h"
#include "process/birth.h"
#include "process/guard.h"
#include "process/startup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PID_WORD "LISTEN_PID="

enum { FIRST = 3 }; /* SD_LISTEN_FDS_START */

_Atomic int offered_count;
static _Atomic bool settled;
static int given; /* how many numbers, from FIRST on */

/* A variable that is another's concern: what is wrong in it is not warned of. */
static int offered_number(const char *name)
{
	const char *value = settings_env(cpr__startup.envp, name);
	int n = 0;

	for (; value && *value >= '0' && *value <= '9' && n < 100000000; value++)
		n = n * 10 + (*value - '0');
	return value && !*value ? n : 0;
}

/* The file of a unix socket in the directory, which the program may want to unlink before it binds. */
static void offered_note_path(struct entry *e)
{
	struct sockaddr_un addr = {0};
	socklen_t len = sizeof(addr);
	char path[109];
	struct stat st;

	if (e->object.domain != AF_UNIX || next_getsockname(e->fd, (struct sockaddr *)&addr, &len) ||
	    !tag_unix_path((struct sockaddr *)&addr, len, path) || stat(path, &st))
		return;
	e->path_dev = st.st_dev;
	e->path_ino = st.st_ino;
}

void offered_read(void)
{
	given = offered_number("LISTEN_PID") == getpid() ? offered_number("LISTEN_FDS") : 0;
}

void offered_begin(void)
{
	int saved_errno = errno;
	struct guard_hold hold;

	if (!given || !guard_lock(&hold))
		return;
	for (struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (e->flags & ENTRY_STARTED_WITH && offered_was_given(e->fd)) {
			e->flags |= ENTRY_OFFERED;
			offered_note_path(e);
			atomic_fetch_add(&offered_count, 1);
		}
	guard_unlock(&hold);
	errno = saved_errno;
}

void offered_settle(void)
{
	atomic_store(&settled, true);
}

static struct entry *from(struct entry *e)
{
	assert_guarded();
	while (e && !(e->flags & ENTRY_OFFERED))
		e = table_after(e);
	return e;
}

struct entry *offered_first(void)
{
	return offered_any() ? from(table_first(cpr__table)) : NULL;
}

struct entry *offered_after(const struct entry *e)
{
	return from(table_after(e));
}

/* The program's like any that it has bound: kept, and no more among what comes again by its number. */
void offered_yield(struct entry *e)
{
	assert_guarded();
	e->flags &= (uint16_t)~(ENTRY_OFFERED | ENTRY_STARTED_WITH);
	entry_judge(e);
	next_fcntl(e->fd, F_SETFD, (void *)(long)FD_CLOEXEC);
	table_make_orphan(cpr__table, e);
	atomic_fetch_sub(&offered_count, 1);
}

__attribute__((noinline)) bool offered_hide(int fd)
{
	struct guard_hold hold;
	struct entry *e;
	bool hidden = false;

	if (atomic_load(&settled) || !offered_was_given(fd) || !birth_own_memory() || !guard_lock(&hold))
		return false;
	e = table_by_fd(cpr__table, fd);
	if (e && e->flags & ENTRY_OFFERED && object_still(&e->object, fd)) {
		hidden = true;
		if (e->fds == 1)
			offered_yield(e);
		else /* it knows, and has moved it: the next generation will look here */
			next_fcntl(fd, F_SETFD, (void *)(long)FD_CLOEXEC);
	}
	guard_unlock(&hold);
	return hidden;
}

bool offered_was_given(int fd)
{
	return fd >= FIRST && fd - FIRST < given;
}

char *offered_word(char *word)
{
	static char ours[32];
	struct text t;

	if (!given || strncmp(word, PID_WORD, strlen(PID_WORD)))
		return word;
	t = TEXT_ON(ours);
	text_format(&t, PID_WORD "%d", getpid()); /* a daemon has another pid than what was started */
	return ours;
}
