/* SPDX-License-Identifier: MIT */
/* How a running server was started, as far as that can be seen from outside; and duplicates of its listeners. */
#define _GNU_SOURCE
#include "attach.h"

#include "base/attr.h"
#include "base/fds.h"
#include "base/io.h"
#include "launch.h"
#include "own.h"
#include "proc.h"
#include "remote.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NAME_ROOM = 64, WORDS_MAX = 1 << 21 };

static int cannot(struct text *why, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int cannot(struct text *why, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	text_vformat(why, format, args);
	va_end(args);
	return error;
}

/* ---- what /proc says ---- */

static int read_link(pid_t pid, const char *name, char out[PATH_MAX])
{
	char link[NAME_ROOM];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/%s", (int)pid, name);
	n = readlink(link, out, PATH_MAX - 1);
	if (n < 0)
		return -errno;
	out[n] = '\0';
	return 0;
}

/* The strings of a file of /proc, parted by NUL. NULL: it cannot be read, or there are none. */
static char **read_words(pid_t pid, const char *name)
{
	char file[NAME_ROOM], *bytes = malloc(WORDS_MAX), **words = NULL;
	size_t count = 0;
	ssize_t n;

	snprintf(file, sizeof(file), "/proc/%d/%s", (int)pid, name);
	n = bytes ? io_read_file(file, bytes, WORDS_MAX) : -ENOMEM;
	for (ssize_t at = 0; at < n; at += (ssize_t)strlen(bytes + at) + 1) {
		char **longer = reallocarray(words, count + 2, sizeof(*words));

		if (!longer)
			return NULL;
		words = longer;
		words[count++] = bytes + at;
		words[count] = NULL;
	}
	return words;
}

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/*
 * Is it what was executed? A server that shows a title there has overwritten it. python3 is python3.11's link: one of
 * the names begins the other.
 */
static bool is_command(char *const *argv, const char *exe)
{
	const char *name = argv && argv[0] ? base_of(argv[0]) : "", *file = base_of(exe);
	size_t n = strlen(name);
	struct stat a, b;

	if (n && *argv[0] == '/' && !stat(argv[0], &a) && !stat(exe, &b))
		return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
	return n && !strncmp(name, file, n);
}

static bool is_environment(char *const *words)
{
	for (; words && *words; words++)
		if (!**words || !strchr(*words, '='))
			return false;
	return true;
}

static int read_command(struct attach *a, char **command, struct text *why)
{
	char *deleted;

	if (read_link(a->pid, "cwd", a->directory))
		return cannot(why, -EACCES, "PID %d: you may not look into it", (int)a->pid);
	deleted = strstr(a->exe, " (deleted)");
	if (deleted && !deleted[10])
		*deleted = '\0'; /* an upgrade: what stands there now is what is started */
	if (access(a->exe, X_OK))
		return cannot(why, -ENOENT, "PID %d: its program, %s, is deleted: give the command after --",
			      (int)a->pid, a->exe);
	a->argv = command ? command : read_words(a->pid, "cmdline");
	if (!command && !is_command(a->argv, a->exe))
		return cannot(why, -ENOTSUP, "PID %d has overwritten its command line (%s): give the command after --",
			      (int)a->pid, a->argv ? a->argv[0] : "empty");
	a->environment = read_words(a->pid, "environ");
	if (a->environment && is_environment(a->environment))
		return 0;
	a->environment = NULL;
	if (!command)
		return cannot(why, -ENOTSUP, "PID %d has overwritten its environment: give the command after --, which "
					     "gets that of this shell", (int)a->pid);
	return 0;
}

/* ---- what is refused ---- */

static int refuse_ours(pid_t pid, struct text *why)
{
	struct proc_page page;

	if (pid == getpid() || proc_descends(getpid(), pid))
		return cannot(why, -EINVAL, "PID %d is this command itself, or what has started it", (int)pid);
	for (pid_t at = pid; at > 1; at = proc_parent(at))
		if (!proc_page(at, &page))
			return cannot(why, -EEXIST, "PID %d is under cpr already: cprctl restart %d", (int)pid,
				      (int)at);
	return 0;
}

int attach_read(struct attach *a, pid_t pid, char **command, struct text *why)
{
	struct proc proc;
	int r = proc_read(pid, &proc);

	*a = (struct attach){.pid = pid, .pidfd = -1};
	if (r || proc.state == 'Z')
		return cannot(why, r == -EACCES ? r : -ESRCH, "PID %d: no such process", (int)pid);
	if (proc.tgid != pid)
		return cannot(why, -EINVAL, "PID %d is a thread of PID %d", (int)pid, (int)proc.tgid);
	r = refuse_ours(pid, why);
	if (r)
		return r;
	r = read_link(pid, "exe", a->exe);
	if (r == -ENOENT)
		return cannot(why, -EINVAL, "PID %d is a thread of the kernel, or about to end", (int)pid);
	if (r)
		return cannot(why, r, "PID %d: you may not look into it", (int)pid);
	a->uid = proc.uid;
	a->gid = proc.gid;
	if (geteuid() && a->uid != geteuid())
		return cannot(why, -EACCES, "PID %d is another user's", (int)pid);
	return read_command(a, command, why);
}

/* ---- following ---- */

static bool is_settings(const char *word)
{
	return !strncmp(word, "CPR_", 4);
}

static int take_environment(const struct attach *a)
{
	int r = a->environment ? launch_environment(a->environment, is_settings) : 0;

	if (r || !a->environment)
		return r;
	return setenv("PWD", a->directory, 1) ? -errno : 0;
}

int attach_follow(const struct attach *a, struct text *why)
{
	if (chdir(a->directory))
		return cannot(why, -errno, "its working directory, %s: %s", a->directory, strerror(errno));
	for (int kind = 0; kind < RLIM_NLIMITS; kind++) {
		struct rlimit limit;

		if (!prlimit(a->pid, kind, NULL, &limit))
			setrlimit(kind, &limit);
	}
	return take_environment(a);
}

int attach_become(const struct attach *a)
{
	cleanup_free gid_t *groups = calloc(PROC_GROUPS_MAX, sizeof(*groups));
	int count = groups ? proc_groups(a->pid, groups, PROC_GROUPS_MAX) : -ENOMEM;

	if (geteuid() || !a->uid)
		return 0;
	if (count < 0)
		return count;
	if (setgroups((size_t)count, groups) || setresgid(a->gid, a->gid, a->gid) ||
	    setresuid(a->uid, a->uid, a->uid))
		return -errno;
	prctl(PR_SET_DUMPABLE, 1); /* cprctl, run by that user, looks into it */
	return 0;
}

/* ---- taking ---- */

struct taking {
	const struct attach *attach;
	struct holdings *holdings;
	pid_t pid;
	int pidfd, error;
};

/* A listener, or a datagram socket with an address and no peer: its entry's kind and flags. */
static bool is_wanted(int fd, struct entry *like)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address), flag_len = sizeof(int);
	int listens = 0, only = 0;

	if (object_of(fd, &like->object) || like->object.domain < 0)
		return false;
	if (!getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, &flag_len) && only)
		like->flags |= ENTRY_V6ONLY;
	flag_len = sizeof(int);
	if (!getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &flag_len) && listens) {
		like->kind = ENTRY_STREAM;
		like->flags |= ENTRY_LISTENING;
		return true;
	}
	like->kind = ENTRY_DATAGRAM;
	return like->object.type == SOCK_DGRAM && (like->object.domain == AF_INET || like->object.domain == AF_INET6) &&
	       getpeername(fd, (struct sockaddr *)&address, &len);
}

static void note_file(struct entry *e)
{
	const char *path = strchr(e->name, ':') + 1;
	struct stat st;

	if (e->object.domain == AF_UNIX && *path == '/' && !stat(path, &st)) {
		e->path_dev = st.st_dev;
		e->path_ino = st.st_ino;
	}
}

static void take_one(int number, void *arg)
{
	struct taking *t = arg;
	struct entry like = {.backlog = -1, .queue = -1}, *e;
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	char name[TAG_NAME_MAX + 1];
	cleanup_fd int fd = -1;

	fd = remote_descriptor(t->pidfd, number);
	if (fd < 0) {
		t->error = fd == -EPERM || fd == -ENOSYS ? fd : t->error;
		return;
	}
	if (!is_wanted(fd, &like) || holdings_has(t->holdings, &like.object) ||
	    getsockname(fd, (struct sockaddr *)&address, &len) ||
	    tag_socket(&like.object, (struct sockaddr *)&address, len, name))
		return;
	like.name = name;
	e = strcmp(strrchr(name, ':'), ":0") ? holdings_keep(t->holdings, &like, &fd) : NULL;
	if (e)
		note_file(e);
}

static void take_from(struct taking *t, pid_t pid)
{
	char name[NAME_ROOM];
	cleanup_fd int pidfd = remote_open(pid);

	if (pidfd < 0)
		return;
	t->pid = pid;
	t->pidfd = pidfd;
	snprintf(name, sizeof(name), "/proc/%d/fd", (int)pid);
	fds_walk_in(name, take_one, t);
}

/* It is one of several that share them: then its parent is the server. */
static pid_t shares_with_parent(const struct attach *a, const struct holdings *h)
{
	pid_t parent = proc_parent(a->pid);

	for (const struct entry *e = table_first(h->table); parent > 1 && e; e = table_after(e))
		if (remote_has_socket(parent, e->object.ino) > 0)
			return parent;
	return 0;
}

int attach_take(struct attach *a, struct holdings *h, struct text *why)
{
	struct taking t = {.attach = a, .holdings = h};
	size_t count;
	cleanup_free pid_t *pids = proc_pids(&count);
	pid_t parent;

	a->pidfd = (int)syscall(SYS_pidfd_open, a->pid, 0);
	take_from(&t, a->pid);
	parent = shares_with_parent(a, h);
	if (parent)
		return cannot(why, -EINVAL, "PID %d has its listeners from PID %d: attach that one", (int)a->pid,
			      (int)parent);
	for (size_t i = 0; i < count; i++)
		if (pids[i] != a->pid && proc_descends(pids[i], a->pid))
			take_from(&t, pids[i]);
	if (t.error == -ENOSYS)
		return cannot(why, t.error, "this kernel cannot give another process's descriptors: Linux 5.6 can");
	if (t.error)
		return cannot(why, t.error,
			      "PID %d: its descriptors may not be taken: that takes the rights of ptrace(2)",
			      (int)a->pid);
	if (!holdings_count(h))
		return cannot(why, -ENOENT, "PID %d has no listener", (int)a->pid);
	return (int)holdings_count(h);
}

void attach_dismiss(const struct attach *a, int signo)
{
	syscall(SYS_pidfd_send_signal, a->pidfd, signo, NULL, 0);
}

void attach_show(const struct attach *a, const char *path, const struct holdings *h)
{
	char user[256];
	struct text t = TEXT_ON(user);

	proc_user(a->uid, &t);
	printf("program:      %s\ncommand:     ", path);
	for (char *const *word = a->argv; *word; word++)
		printf(" %s", *word);
	printf("\ndirectory:    %s\nuser:         %s\nenvironment:  %s\n", a->directory, user,
	       a->environment ? "its own" : "this shell's");
	for (const struct entry *e = table_first(h->table); e; e = table_after(e))
		printf("listener:     %s\n", e->name);
}
