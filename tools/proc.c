/* SPDX-License-Identifier: MIT */
/* What /proc says of a process. */
#define _GNU_SOURCE
#include "proc.h"

#include "base/fds.h"
#include "base/io.h"
#include "own.h"
#include "model/protocol.h"

#include <bsd/stdlib.h>
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { FILE_NAME_MAX = 64, DEPTH_MAX = 64 };

static const char *file_of(pid_t pid, const char *name, char room[FILE_NAME_MAX])
{
	snprintf(room, FILE_NAME_MAX, "/proc/%d/%s", (int)pid, name);
	return room;
}

static FILE *open_of(pid_t pid, const char *name)
{
	char room[FILE_NAME_MAX];

	return fopen(file_of(pid, name, room), "re");
}

/* A process that is gone shows as a missing directory, or as ESRCH once the file was open. */
static int failure(int error)
{
	return error == ENOENT ? -ESRCH : -error;
}

bool proc_has_signal(uint64_t set, int signo)
{
	return set >> (signo - 1) & 1;
}

static void read_field(const char *line, struct proc *proc)
{
	unsigned long long set;
	unsigned real, effective;
	int number;
	char state;

	if (sscanf(line, "Tgid: %d", &number) == 1)
		proc->tgid = number;
	else if (sscanf(line, "State: %c", &state) == 1)
		proc->state = state;
	else if (sscanf(line, "Uid: %u %u", &real, &effective) == 2)
		proc->uid = effective;
	else if (sscanf(line, "Gid: %u %u", &real, &effective) == 2)
		proc->gid = effective;
	else if (sscanf(line, "SigCgt: %llx", &set) == 1)
		proc->caught = set;
	else if (sscanf(line, "SigBlk: %llx", &set) == 1)
		proc->blocked = set;
	else if (sscanf(line, "Seccomp: %d", &number) == 1)
		proc->filters = number == 2; /* a kernel before 5.9 does not count them */
	else if (sscanf(line, "Seccomp_filters: %d", &number) == 1)
		proc->filters = number;
}

int proc_read(pid_t pid, struct proc *into)
{
	cleanup_file FILE *file = open_of(pid, "status");
	cleanup_free char *line = NULL;
	struct proc proc = {0};
	size_t room = 0;

	if (!file)
		return failure(errno);
	while (getline(&line, &room, file) > 0)
		read_field(line, &proc);
	if (ferror(file) || !proc.tgid)
		return -ESRCH;
	*into = proc;
	return 0;
}

int proc_groups(pid_t pid, gid_t *groups, int most)
{
	cleanup_file FILE *file = open_of(pid, "status");
	cleanup_free char *line = NULL;
	size_t room = 0;
	int count = 0;

	if (!file)
		return failure(errno);
	while (getline(&line, &room, file) > 0)
		if (!strncmp(line, "Groups:", 7)) {
			char *at = line + 7, *end;

			for (; count < most; at = end) {
				unsigned long group = strtoul(at, &end, 10);

				if (end == at)
					break;
				groups[count++] = (gid_t)group;
			}
			return count;
		}
	return -ESRCH;
}

/* "59" or "59.1" behind the name, up to the kernel's " (deleted)". */
static bool parse_page(const char *at, struct proc_page *page)
{
	int signo, filters = -1, n = 0;

	if (sscanf(at, "%d%n.%d%n", &signo, &n, &filters, &n) < 1 || signo < SIGRTMIN || signo > SIGRTMAX)
		return false;
	if (strcmp(at + n, " (deleted)\n") && strcmp(at + n, "\n"))
		return false;
	*page = (struct proc_page){.signo = signo, .filters = filters};
	return true;
}

/* The mapping's inode is the field before its name. */
static uint64_t inode_before(const char *line, const char *at)
{
	while (at > line && at[-1] == ' ')
		at--;
	while (at > line && at[-1] != ' ')
		at--;
	return strtoull(at, NULL, 10);
}

static bool parse_mapping(const char *at, struct proc_page *page)
{
	static const char plain[] = "/memfd:" PROTOCOL_PAGE_NAME,
			  supervisor[] = "/memfd:" PROTOCOL_SUPERVISOR_PAGE_NAME;

	if (!strncmp(at, plain, sizeof(plain) - 1))
		return parse_page(at + sizeof(plain) - 1, page);
	if (strncmp(at, supervisor, sizeof(supervisor) - 1) || !parse_page(at + sizeof(supervisor) - 1, page))
		return false;
	page->supervisor = true;
	return true;
}

int proc_page(pid_t pid, struct proc_page *page)
{
	cleanup_file FILE *file = open_of(pid, "maps");
	cleanup_free char *line = NULL;
	size_t room = 0;

	if (!file)
		return failure(errno);
	errno = 0;
	while (getline(&line, &room, file) > 0) {
		char *at = strchr(line, '/'); /* the mapping's name is the last field, and the only one with a slash */

		if (at && parse_mapping(at, page)) {
			page->ino = inode_before(line, at);
			return 0;
		}
	}
	return ferror(file) && errno ? failure(errno) : -ENXIO;
}

/* 0, -ESRCH, -errno. */
static int read_stat(pid_t pid, int *parent, unsigned long long *ticks)
{
	char stat[1024], room[FILE_NAME_MAX], *at;
	ssize_t n = io_read_file(file_of(pid, "stat", room), stat, sizeof(stat));

	if (n <= 0)
		return n ? failure((int)-n) : -ESRCH;
	at = strrchr(stat, ')'); /* the name before it may hold anything */
	if (!at || sscanf(at + 1, " %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
			  parent, ticks) != 2)
		return -ESRCH;
	return 0;
}

pid_t proc_parent(pid_t pid)
{
	unsigned long long ticks;
	int parent;

	return read_stat(pid, &parent, &ticks) ? 0 : parent;
}

/* The state stands behind the name, which may hold any character. */
static bool thread_sleeps(int tasks, const char *tid)
{
	char path[FILE_NAME_MAX], stat[512], *end;
	struct text t = TEXT_ON(path);
	cleanup_fd int fd = -1;
	ssize_t n;

	text_format(&t, "%s/stat", tid);
	fd = openat(tasks, path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, stat, sizeof(stat) - 1);
	if (n <= 0)
		return true;
	stat[n] = '\0';
	end = strrchr(stat, ')');
	return !end || (strncmp(end, ") R", 3) && strncmp(end, ") D", 3));
}

bool proc_is_stopped(pid_t pid)
{
	struct proc proc;

	return !proc_read(pid, &proc) && (proc.state == 'T' || proc.state == 't');
}

bool proc_rests(pid_t pid)
{
	char path[FILE_NAME_MAX];
	DIR *tasks = opendir(file_of(pid, "task", path));
	bool rests = true;

	if (!tasks)
		return true;
	for (struct dirent *d; rests && (d = readdir(tasks));)
		rests = *d->d_name == '.' || thread_sleeps(dirfd(tasks), d->d_name);
	closedir(tasks);
	return rests;
}

bool proc_descends(pid_t pid, pid_t ancestor)
{
	for (int depth = 0; pid > 1 && depth < DEPTH_MAX; depth++, pid = proc_parent(pid))
		if (pid == ancestor)
			return true;
	return false;
}

struct children {
	pid_t pid, *pids;
	size_t count, most;
};

/* Each thread has children of its own. */
static void add_children(int tid, void *arg)
{
	struct children *all = arg;
	char name[FILE_NAME_MAX], text[4096], *at = text;
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/%d/task/%d/children", (int)all->pid, tid);
	n = io_read_file(name, text, sizeof(text));
	while (n > 0 && all->count < all->most) {
		char *end;
		long pid = strtol(at, &end, 10);

		if (end == at)
			break;
		all->pids[all->count++] = (pid_t)pid;
		at = end;
	}
}

size_t proc_children(pid_t pid, pid_t *pids, size_t most)
{
	struct children all = {.pid = pid, .pids = pids, .most = most};
	char room[FILE_NAME_MAX];

	fds_walk_in(file_of(pid, "task", room), add_children, &all);
	return all.count;
}

uint64_t proc_start_ticks(pid_t pid)
{
	unsigned long long ticks;
	int parent;

	return read_stat(pid, &parent, &ticks) ? 0 : ticks;
}

int proc_started(pid_t pid, time_t *started)
{
	unsigned long long ticks;
	struct timespec since_boot;
	int parent, r = read_stat(pid, &parent, &ticks);

	if (r)
		return r;
	clock_gettime(CLOCK_BOOTTIME, &since_boot);
	*started = time(NULL) - (since_boot.tv_sec - (time_t)(ticks / (unsigned long long)sysconf(_SC_CLK_TCK)));
	return 0;
}

static int ascending(const void *a, const void *b)
{
	return *(const pid_t *)a < *(const pid_t *)b ? -1 : 1;
}

pid_t *proc_pids(size_t *count)
{
	cleanup_dir DIR *dir = opendir("/proc");
	size_t room = 0, used = 0;
	struct dirent *entry;
	pid_t *pids = NULL;

	if (!dir)
		err(1, "/proc");
	while ((entry = readdir(dir))) {
		const char *error;
		pid_t pid = (pid_t)strtonum(entry->d_name, 1, INT32_MAX, &error);

		if (error)
			continue;
		if (used == room) {
			room = room ? 2 * room : 256;
			pids = reallocarray(pids, room, sizeof(*pids));
			if (!pids)
				err(1, NULL);
		}
		pids[used++] = pid;
	}
	if (used)
		qsort(pids, used, sizeof(*pids), ascending);
	*count = used;
	return pids;
}

void proc_user(uid_t uid, struct text *t)
{
	const struct passwd *user = getpwuid(uid);

	if (user)
		text_add(t, user->pw_name);
	else
		text_add_int(t, uid);
}

void proc_command(pid_t pid, struct text *t)
{
	char words[4096], room[FILE_NAME_MAX];
	ssize_t n = io_read_file(file_of(pid, "cmdline", room), words, sizeof(words));

	while (n > 0 && !words[n - 1]) /* setproctitle leaves many */
		n--;
	for (ssize_t i = 0; i < n; i++)
		words[i] = words[i] ? words[i] : ' ';
	if (n > 0) {
		text_add_bytes(t, words, (size_t)n);
		return;
	}
	n = io_read_file(file_of(pid, "comm", room), words, sizeof(words));
	words[n > 0 ? strcspn(words, "\n") : 0] = '\0';
	text_format(t, "[%s]", words);
}
