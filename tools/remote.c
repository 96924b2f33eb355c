/* SPDX-License-Identifier: MIT */
/* Another process, by pidfds, process_vm_readv(2) and /proc. */
#define _GNU_SOURCE
#include "remote.h"

#include "base/attr.h"
#include "base/fds.h"
#include "base/io.h"
#include "base/text.h"
#include "model/tag.h"
#include "proc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NAME_ROOM = 64, MEMORY_PAGE = 4096 };

#ifndef PIDFD_THREAD /* Linux 6.9 */
#define PIDFD_THREAD O_EXCL
#endif

int remote_open(pid_t tid)
{
	int fd = (int)syscall(SYS_pidfd_open, tid, PIDFD_THREAD);
	struct proc proc;

	if (fd < 0 && errno == EINVAL)
		fd = proc_read(tid, &proc) ? -1 : (int)syscall(SYS_pidfd_open, proc.tgid, 0);
	return fd < 0 ? -errno : fd;
}

int remote_descriptor(int pidfd, int number)
{
	int fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);

	return fd < 0 ? -errno : fd;
}

/* One of our own: no rights stand in the way of that. */
int remote_allowed(void)
{
	cleanup_fd int self = remote_open(getpid());
	cleanup_fd int again = self < 0 ? self : remote_descriptor(self, self);

	return again < 0 ? again : 0;
}

int remote_flags(pid_t tid, int number)
{
	char name[NAME_ROOM], text[512], *at;
	unsigned flags;
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/%d/fdinfo/%d", (int)tid, number);
	n = io_read_file(name, text, sizeof(text));
	if (n < 0)
		return (int)n;
	at = strstr(text, "flags:");
	return at && sscanf(at, "flags: %o", &flags) == 1 ? (int)flags : -EBADF;
}

int remote_read(pid_t tid, uint64_t address, void *bytes, size_t n)
{
	const struct iovec here = {bytes, n}, there = {(void *)(uintptr_t)address, n};

	return process_vm_readv(tid, &here, 1, &there, 1, 0) == (ssize_t)n ? 0 : -EFAULT;
}

/* Page by page: what follows the string may not be there. */
int remote_string(pid_t tid, uint64_t address, char *string, size_t size)
{
	size_t used = 0;

	while (used < size) {
		size_t rest = MEMORY_PAGE - (address + used) % MEMORY_PAGE;
		size_t n = rest < size - used ? rest : size - used;

		if (remote_read(tid, address + used, string + used, n))
			return -EFAULT;
		if (memchr(string + used, '\0', n))
			return 0;
		used += n;
	}
	return -ENAMETOOLONG;
}

int remote_path(pid_t tid, int directory, const char *path, char *out)
{
	char name[NAME_ROOM];
	cleanup_fd int from = -1;

	if (*path == '/')
		return tag_path(AT_FDCWD, path, out);
	if (directory == AT_FDCWD)
		snprintf(name, sizeof(name), "/proc/%d/cwd", (int)tid);
	else
		snprintf(name, sizeof(name), "/proc/%d/fd/%d", (int)tid, directory);
	from = open(name, O_PATH | O_CLOEXEC);
	return from < 0 ? -errno : tag_path(from, path, out);
}

int remote_stat(pid_t tid, const char *path, struct stat *st)
{
	char name[NAME_ROOM + TAG_NAME_MAX];

	snprintf(name, sizeof(name), "/proc/%d/root%s", (int)tid, path);
	return stat(name, st) ? -errno : 0;
}

/* ---- sockets ---- */

uint64_t remote_socket(pid_t pid, int number)
{
	char name[NAME_ROOM], link[NAME_ROOM];
	unsigned long long ino;
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/%d/fd/%d", (int)pid, number);
	n = readlink(name, link, sizeof(link) - 1);
	if (n < 0)
		return 0;
	link[n] = '\0';
	return sscanf(link, "socket:[%llu]", &ino) == 1 ? ino : 0;
}

bool remote_is_socket(pid_t pid, int number, uint64_t ino)
{
	return remote_socket(pid, number) == ino;
}

struct search {
	pid_t pid;
	uint64_t ino;
	bool any, found;
};

static void compare(int number, void *arg)
{
	struct search *search = arg;

	search->any = true;
	search->found = search->found || remote_is_socket(search->pid, number, search->ino);
}

/* A process that ends has no descriptors for a moment, before anything else shows that it does. */
int remote_has_socket(pid_t pid, uint64_t ino)
{
	struct search search = {.pid = pid, .ino = ino};
	char name[NAME_ROOM];

	snprintf(name, sizeof(name), "/proc/%d/fd", (int)pid);
	if (!fds_walk_in(name, compare, &search) || !search.any)
		return -ESRCH;
	return search.found;
}

/* ---- epoll ---- */

struct poll_search {
	pid_t pid;
	int number;
	uint64_t ino;
	bool found;
};

static void look_into_epoll(int number, void *arg)
{
	struct poll_search *search = arg;
	char name[NAME_ROOM], link[NAME_ROOM] = "", line[256];
	FILE *info;

	snprintf(name, sizeof(name), "/proc/%d/fd/%d", (int)search->pid, number);
	if (readlink(name, link, sizeof(link) - 1) < 0 || strcmp(link, "anon_inode:[eventpoll]") != 0)
		return;
	snprintf(name, sizeof(name), "/proc/%d/fdinfo/%d", (int)search->pid, number);
	info = fopen(name, "re");
	while (info && fgets(line, sizeof(line), info)) {
		const char *at = strstr(line, " ino:");
		unsigned long long ino;
		int watched;

		if (at && sscanf(line, "tfd: %d", &watched) == 1 && watched == search->number &&
		    sscanf(at, " ino:%llx", &ino) == 1 && ino == search->ino)
			search->found = true;
	}
	if (info)
		fclose(info);
}

bool remote_is_polled(pid_t pid, int number, uint64_t ino)
{
	struct poll_search search = {.pid = pid, .number = number, .ino = ino};
	char name[NAME_ROOM];

	snprintf(name, sizeof(name), "/proc/%d/fd", (int)pid);
	fds_walk_in(name, look_into_epoll, &search);
	return search.found;
}
