/* SPDX-License-Identifier: MIT */
/* Pid files of the program's own, out of the next generation's way. */
#define _GNU_SOURCE
#include "restart/pidfiles.h"

#include "base/fds.h"
#include "base/full.h"
#include "base/io.h"
#include "base/log.h"
#include "base/next.h"
#include "base/raw.h"
#include "base/room.h"
#include "model/tag.h"
#include "process/guard.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 64, CONTENT = 32 };

static cpr_large struct pidfile {
	char path[TAG_NAME_MAX + 1];
	char content[CONTENT]; /* of one that was taken away; "" for the others */
	struct stat was;
} files[FILES];
static unsigned noted;

static bool is_called_pid(const char *path)
{
	const char *slash = strrchr(path, '/');

	return strcasestr(slash ? slash + 1 : path, "pid");
}

static void add(const char *path)
{
	for (unsigned i = 0; i < FILES; i++)
		if (!strcmp(files[i].path, path))
			return;
	if (noted >= FILES)
		full_note(FULL_PIDFILES, FILES);
	memcpy(files[noted++ % FILES].path, path, strlen(path) + 1);
}

void pidfiles_note(int dir, const char *path)
{
	cleanup_room char *absolute = NULL;
	int saved_errno = errno;
	struct guard_hold hold;

	if (!is_called_pid(path))
		return;
	absolute = room_take();
	if (absolute && !tag_path(dir, path, absolute) && guard_lock(&hold)) {
		add(absolute);
		guard_unlock(&hold);
	}
	errno = saved_errno;
}

/* A number, and nothing else but blanks. */
static bool holds(const char *content, int pid)
{
	static const char blanks[] = " \t\r\n";
	int64_t number = 0;
	const char *at = content + strspn(content, blanks);

	for (; *at >= '0' && *at <= '9' && number < INT32_MAX; at++)
		number = number * 10 + (*at - '0');
	return number == pid && !at[strspn(at, blanks)];
}

struct search {
	const struct stat *file;
	bool found;
};

static void compare(int fd, void *arg)
{
	struct search *search = arg;
	struct stat st;

	search->found |= !fstat(fd, &st) && st.st_dev == search->file->st_dev && st.st_ino == search->file->st_ino;
}

/* One that is open is a lock, most often: the next generation asks for that, and not for the number. */
static bool is_open(const struct stat *file)
{
	struct search search = {.file = file};

	fds_walk(compare, &search);
	return search.found;
}

static void take_away(struct pidfile *file)
{
	struct stat *was = &file->was;

	file->content[0] = '\0';
	if (!file->path[0] || lstat(file->path, was) || !S_ISREG(was->st_mode) || was->st_nlink != 1 ||
	    was->st_size >= CONTENT)
		return;
	if (io_read_file(file->path, file->content, CONTENT) <= 0 || !holds(file->content, getpid()) || is_open(was) ||
	    next_unlink(file->path))
		file->content[0] = '\0';
	else
		log_debug("leaving: took the pid file %s away", file->path);
}

void pidfiles_take_away(void)
{
	for (int i = 0; i < FILES; i++)
		take_away(&files[i]);
}

static void put_back(struct pidfile *file)
{
	cleanup_fd int fd = raw_open(file->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, file->was.st_mode & 07777);

	if (fd < 0 || io_write_all(fd, file->content, strlen(file->content)) || fchmod(fd, file->was.st_mode & 07777) ||
	    (geteuid() == 0 && fchown(fd, file->was.st_uid, file->was.st_gid)))
		log_warn("the pid file %s could not be put back: %m", file->path);
	file->content[0] = '\0';
}

void pidfiles_put_back(void)
{
	for (int i = 0; i < FILES; i++)
		if (files[i].content[0])
			put_back(&files[i]);
}
