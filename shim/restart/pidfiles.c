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
#include "base/readable.h"
#include "model/settings.h"
#include "process/guard.h"
#include "process/procinfo.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NO_PROCESS "4194304\n" /* one more than any has: the kernel's greatest pid_max */

enum { FILES = 64, CONTENT = 32, DEPTH = 64 };

static cpr_large struct pidfile {
	char path[TAG_NAME_MAX + 1];
	char content[CONTENT]; /* of one that was taken away; "" for the others */
	struct stat was;
	char own[CONTENT]; /* what it said when it named this generation; "": it never did */
	struct stat own_was;
} files[FILES];
static unsigned noted;

static bool is_called_pid(const char *path)
{
	const char *slash = strrchr(path, '/');

	return strcasestr(slash ? slash + 1 : path, "pid");
}

static void pidfiles_add(const char *path)
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
		pidfiles_add(absolute);
		guard_unlock(&hold);
	}
	errno = saved_errno;
}

/* A number, and nothing else but blanks; 0: it is none. */
static int number_in(const char *content)
{
	static const char blanks[] = " \t\r\n";
	int64_t number = 0;
	const char *at = content + strspn(content, blanks);

	for (; *at >= '0' && *at <= '9' && number < INT32_MAX; at++)
		number = number * 10 + (*at - '0');
	return number > INT32_MAX || at[strspn(at, blanks)] ? 0 : (int)number;
}

/* The child of our supervisor from which a process descends, or which it is. 0: none. */
static int top_of(int pid)
{
	struct procinfo proc;

	for (int depth = 0; pid > 1 && depth < DEPTH && procinfo_look(pid, &proc); depth++) {
		if (proc.parent == cpr__settings.supervisor)
			return pid;
		pid = proc.parent;
	}
	return 0;
}

/* A process of our supervisor's, and none of this generation's: a worker may look for its own master. */
static bool is_other_generations(int pid)
{
	int top = pid > 0 ? top_of(pid) : 0;

	return top && top != top_of(getpid());
}

/* A file of that content, opened as the program asks. The descriptor, or -1. */
static int file_that_says(const char *content, int flags)
{
	cleanup_fd int fd = io_memfd("pid");
	char path[40];
	struct text t = TEXT_ON(path);

	if (fd < 0 || io_write_all(fd, content, strlen(content)))
		return -1;
	text_format(&t, "/proc/self/fd/%d", fd);
	return raw_open(path, flags & ~(O_NOFOLLOW | O_TRUNC | O_NOATIME), 0);
}

bool pidfiles_stand_in(int dir, const char *path, int flags, int *stands_in)
{
	char content[CONTENT] = "";
	int saved_errno = errno;
	cleanup_fd int fd = -1;
	struct stat st;

	if ((flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_PATH | O_DIRECTORY) || !readable_string(path) ||
	    !is_called_pid(path))
		return false;
	fd = raw_openat(dir, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
	if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size < CONTENT &&
	    io_read_all(fd, content, CONTENT - 1) > 0 && is_other_generations(number_in(content))) {
		log_debug("%s names the last generation: for this one it names no process", path);
		*stands_in = file_that_says(NO_PROCESS, flags);
		errno = *stands_in < 0 ? ENOENT : saved_errno;
		return true;
	}
	errno = saved_errno;
	return false;
}

struct search {
	const struct stat *file;
	bool found;
};

static void pidfiles_compare(int fd, void *arg)
{
	struct search *search = arg;
	struct stat st;

	search->found |= !fstat(fd, &st) && st.st_dev == search->file->st_dev && st.st_ino == search->file->st_ino;
}

/* One that is open is a lock, most often: the next generation asks for that, and not for the number. */
static bool pidfiles_is_open(const struct stat *file)
{
	struct search search = {.file = file};

	fds_walk(pidfiles_compare, &search);
	return search.found;
}

/* What the file says; 0: it is no pid file. */
static int pidfiles_look_at(const struct pidfile *file, char content[CONTENT], struct stat *st)
{
	return file->path[0] && !lstat(file->path, st) && S_ISREG(st->st_mode) && st->st_nlink == 1 &&
			       st->st_size < CONTENT && io_read_file(file->path, content, CONTENT) > 0
		       ? number_in(content)
		       : 0;
}

static void take_away(struct pidfile *file)
{
	file->content[0] = '\0';
	if (pidfiles_look_at(file, file->content, &file->was) != getpid() || pidfiles_is_open(&file->was) ||
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

static void write_anew(const char *path, const char *content, const struct stat *was, int how)
{
	cleanup_fd int fd = raw_open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | how,
				     was->st_mode & 07777);
	struct stat st;

	/* its directory may be a worker's: what stands there now need not be what was looked at */
	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_nlink != 1 || ftruncate(fd, 0) ||
	    io_write_all(fd, content, strlen(content)) || fchmod(fd, was->st_mode & 07777) ||
	    (geteuid() == 0 && fchown(fd, was->st_uid, was->st_gid)))
		log_warn("the pid file %s could not be put back: %m", path);
}

void pidfiles_put_back(void)
{
	for (int i = 0; i < FILES; i++)
		if (files[i].content[0]) {
			write_anew(files[i].path, files[i].content, &files[i].was, O_EXCL);
			files[i].content[0] = '\0';
		}
}

/* ---- while another generation starts beside this one, and writes its own ---- */

void pidfiles_remember(void)
{
	int top = top_of(getpid());

	for (int i = 0; top && i < FILES; i++) {
		char content[CONTENT] = "";
		struct stat st;
		int pid = pidfiles_look_at(&files[i], content, &st);

		if (pid <= 0 || top_of(pid) != top)
			continue;
		memcpy(files[i].own, content, CONTENT);
		files[i].own_was = st;
	}
}

/* Another one's, if that lives still; or it is gone. */
static bool is_to_be_put_back(const struct pidfile *file, bool from_the_living)
{
	char content[CONTENT] = "";
	struct stat st;
	int pid;

	if (lstat(file->path, &st))
		return errno == ENOENT;
	pid = pidfiles_look_at(file, content, &st);
	return pid > 0 && (procinfo_is_gone(pid) || (from_the_living && is_other_generations(pid)));
}

void pidfiles_restore(bool from_the_living)
{
	for (int i = 0; i < FILES; i++)
		if (files[i].own[0] && is_to_be_put_back(&files[i], from_the_living))
			write_anew(files[i].path, files[i].own, &files[i].own_was, 0);
}
