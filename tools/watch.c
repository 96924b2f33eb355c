/* SPDX-License-Identifier: MIT */
/* A change of these files restarts the server. inotify tells when to look, and stat() whether a file has changed. */
#define _GNU_SOURCE
#include "watch.h"

#include "base/attr.h"
#include "base/io.h"
#include "own.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	EVENTS = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ATTRIB | IN_ONLYDIR,
};

/* What a file is: another one, or another content, differs in this. */
struct look {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec modified;
	bool there, directory;
};

static struct {
	int fd;
	size_t count;
	char *const *files;
	struct look *looks;
} watch = {.fd = -1};

static struct look look_at(const char *file)
{
	struct stat st;

	if (stat(file, &st))
		return (struct look){.there = false};
	return (struct look){st.st_dev, st.st_ino, st.st_size, st.st_mtim, true, S_ISDIR(st.st_mode)};
}

static bool same(const struct look *a, const struct look *b)
{
	return a->there == b->there && a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
	       a->modified.tv_sec == b->modified.tv_sec && a->modified.tv_nsec == b->modified.tv_nsec;
}

static int watch_parent(const char *path)
{
	char directory[PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t n = slash == path ? 1 : (size_t)(slash - path);

	if (n >= sizeof(directory))
		return -ENAMETOOLONG;
	memcpy(directory, path, n);
	directory[n] = '\0';
	return inotify_add_watch(watch.fd, directory, EVENTS) < 0 ? -errno : 0;
}

/* The directory that names it, the one in which it really stands, and itself if it is one. Known ones are not added
 * twice. */
static int watch_file(const char *file)
{
	char real[PATH_MAX];
	int r = watch_parent(file);

	if (!r && realpath(file, real))
		r = watch_parent(real);
	if (!r && look_at(file).directory && inotify_add_watch(watch.fd, file, EVENTS) < 0)
		r = -errno;
	return r;
}

static int remember(int fd, char *const *files, size_t count)
{
	watch.fd = fd;
	watch.looks = calloc(count, sizeof(*watch.looks));
	watch.files = files;
	watch.count = count;
	for (size_t i = 0; watch.looks && i < count; i++)
		watch.looks[i] = look_at(files[i]);
	return watch.looks ? 0 : -ENOMEM;
}

int watch_open(char *const *files, size_t count)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	int error = fd < 0 ? -errno : remember(fd, files, count);

	if (error)
		return error;
	for (size_t i = 0; i < count; i++) {
		int r = watch_file(files[i]);

		if (r)
			return r;
		watch.looks[i] = look_at(files[i]);
	}
	return watch.fd;
}

int watch_resume(int fd, char *const *files, size_t count, bool *changed)
{
	*changed = io_await_input(fd, 0);
	return remember(fd, files, count);
}

static void read_events(void)
{
	char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));

	while (read(watch.fd, events, sizeof(events)) > 0)
		;
}

/*
 * A missing file is no change: an editor, or a deployment, is about to put it back. The time of a directory shows that
 * a name has come or gone. It shows that a file was rewritten only after a rename, as is proper for configurations.
 */
bool watch_changed(void)
{
	bool changed = false;

	read_events();
	for (size_t i = 0; i < watch.count; i++) {
		struct look now = look_at(watch.files[i]);

		if (!now.there || same(&now, &watch.looks[i]))
			continue;
		watch.looks[i] = now;
		changed = true;
		watch_file(watch.files[i]); /* it may stand in another directory */
	}
	return changed;
}
