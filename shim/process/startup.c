/* SPDX-License-Identifier: MIT */
/* Start conditions: noted at the start, compared and restored when leaving. */
#define _GNU_SOURCE
#include "process/startup.h"

#include "process/guard.h"
#include "base/io.h"
#include "base/log.h"
#include "base/next.h"
#include "base/pool.h"
#include "model/settings.h"
#include "process/identity.h"
#include "process/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

struct origin cpr__startup;

static struct {
	mode_t umask;
	sigset_t mask;
	bool ignored[_NSIG];
	struct rlimit limits[RLIM_NLIMITS];
	cpu_set_t processors;
	bool processors_known;
	int nice;
	int parent_death_signal;
} start;

static cpr_large struct { /* what startup_restore_process replaced */
	struct sigaction actions[_NSIG];
	bool replaced[_NSIG];
	struct itimerval timers[3];
	struct rlimit limits[RLIM_NLIMITS];
	cpu_set_t processors;
} before;

/* ---- noting ---- */

static char *startup_copy_string(const char *string)
{
	size_t n = strlen(string) + 1;
	char *room = pool_alloc(n);

	return room ? memcpy(room, string, n) : NULL;
}

static char **startup_copy_strings(char **from, const char *without)
{
	size_t n = 0, used = 0, len = without ? strlen(without) : 0;
	char **room;

	while (from[n])
		n++;
	room = pool_alloc((n + 1) * sizeof(char *));
	for (size_t i = 0; room && i < n; i++) {
		if (without && !strncmp(from[i], without, len) && from[i][len] == '=')
			continue;
		room[used] = startup_copy_string(from[i]);
		if (!room[used++])
			return NULL;
	}
	return room;
}

/* $PWD says by which symbolic links the directory was reached, if it is true. */
static const char *start_directory(void)
{
	const char *pwd = settings_env((char **)cpr__snapshot.envp, "PWD"), *real = cpr__snapshot.directory;
	struct stat a, b;

	if (pwd && real && *pwd == '/' && !stat(pwd, &a) && !stat(real, &b) &&
	    a.st_dev == b.st_dev && a.st_ino == b.st_ino)
		return pwd;
	return real;
}

/* As it was said at the start, absolute: the program may stand in another directory by now. */
static int start_path(const char *given, char path[TAG_NAME_MAX + 1])
{
	char joined[TAG_NAME_MAX + 1];
	struct text t = TEXT_ON(joined);

	if (*given == '/' || !cpr__snapshot.directory)
		return tag_path(AT_FDCWD, given, path);
	text_format(&t, "%s/%s", cpr__snapshot.directory, given);
	return t.cut ? -ENAMETOOLONG : tag_path(AT_FDCWD, joined, path);
}

/*
 * Notes the path that execve was given, absolute. For a script (its first line names the interpreter) the kernel keeps
 * the script's path there. It puts the interpreter, its argument and the script in front of the arguments. We remove
 * these: exec adds them again.
 */
static int startup_note_path(char **argv)
{
	const char *given = (const char *)getauxval(AT_EXECFN);
	char path[TAG_NAME_MAX + 1];

	if (!given || start_path(given, path)) {
		ssize_t n = readlink("/proc/self/exe", path, TAG_NAME_MAX);

		if (n <= 0)
			return -ENOENT;
		path[n] = '\0';
		given = NULL;
	}
	cpr__startup.path = startup_copy_string(path);
	if (given && !io_same_file(path, "/proc/self/exe"))
		for (int i = 1; i <= 2 && argv[0] && argv[i]; i++)
			if (!strcmp(argv[i], given)) {
				cpr__startup.argv += i;
				cpr__startup.script = cpr__startup.path;
				break;
			}
	return cpr__startup.path ? 0 : -ENOMEM;
}

/* Programs that run another file, which they are given by name: that file is "the program". */
static bool is_interpreter(const char *path)
{
	static const char *const names[] = {"python", "pypy", "perl", "ruby", "node", "php",   "lua",
					    "java",   "sh",   "bash", "dash", "zsh",  "tclsh", "guile"};
	const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;

	for (size_t i = 0; i < countof(names); i++) {
		size_t n = strlen(names[i]);

		if (!strncmp(base, names[i], n) && !base[n + strspn(base + n, "0123456789.")])
			return true;
	}
	return false;
}

/* The first argument that is a file, absolute. */
static bool first_file(char **argv, char path[TAG_NAME_MAX + 1])
{
	for (int i = 1; argv[0] && argv[i]; i++)
		if (argv[i][0] != '-' && !start_path(argv[i], path) && !faccessat(AT_FDCWD, path, F_OK, 0))
			return true;
	return false;
}

static int note_heirlooms(const struct state *state)
{
	size_t n;

	if (!state) {
		snapshot_complete_fds();
		cpr__startup.heirlooms = cpr__snapshot.fds;
		cpr__startup.heirloom_count = cpr__snapshot.fd_count;
		return 0;
	}
	n = state->heirloom_count;
	cpr__startup.heirlooms = pool_alloc((n + 1) * sizeof(struct heirloom));
	if (!cpr__startup.heirlooms)
		return -ENOMEM;
	memcpy(cpr__startup.heirlooms, state->heirlooms, n * sizeof(struct heirloom));
	cpr__startup.heirloom_count = n;
	return 0;
}

static void note_process(void)
{
	const struct snapshot *s = &cpr__snapshot;

	start.umask = s->umask;
	memcpy(&start.mask, &s->mask, sizeof(s->mask));
	sigdelset(&start.mask, cpr__settings.signal); /* blocked by the generation before */
	if (cpr__settings.restart_signal)
		sigdelset(&start.mask, cpr__settings.restart_signal);
	for (int sig = 1; sig < _NSIG; sig++)
		start.ignored[sig] = s->ignored >> (sig - 1) & 1;
	memcpy(start.limits, s->limits, sizeof(start.limits));
	start.processors = s->processors;
	start.processors_known = s->processors_known;
	start.nice = s->nice;
	start.parent_death_signal = s->parent_death_signal;
	identity_begin(&s->rights);
}

struct given startup_given(void)
{
	struct given given = {.path = (char *)cpr__startup.path,
			      .argv = cpr__startup.argv,
			      .envp = cpr__startup.envp,
			      .umask = start.umask};

	given.directory = (char *)(cpr__startup.directory ? cpr__startup.directory : "");
	given.script = (char *)(cpr__startup.script ? cpr__startup.script : "");
	memcpy(&given.mask, &start.mask, sizeof(given.mask)); /* the kernel's form */
	for (int sig = 1; sig < _NSIG; sig++)
		given.ignored |= (uint64_t)start.ignored[sig] << (sig - 1);
	return given;
}

/* The program exec'ed itself: a restart begins with what it was first started with, all the same. */
static int startup_take_given(const struct given *given)
{
	cpr__startup.argv = startup_copy_strings(given->argv, NULL);
	cpr__startup.envp = startup_copy_strings(given->envp, SETTINGS_STATE_FD);
	cpr__startup.path = startup_copy_string(given->path);
	cpr__startup.directory = *given->directory ? startup_copy_string(given->directory) : NULL;
	cpr__startup.script = *given->script ? startup_copy_string(given->script) : NULL;
	if (!cpr__startup.argv || !cpr__startup.envp || !cpr__startup.path)
		return -ENOMEM;
	start.umask = given->umask;
	memcpy(&start.mask, &given->mask, sizeof(given->mask));
	for (int sig = 1; sig < _NSIG; sig++)
		start.ignored[sig] = given->ignored >> (sig - 1) & 1;
	return 0;
}

/* The snapshot's own, but for one variable. */
static void drop_variable(char **envp, const char *name)
{
	size_t n = strlen(name), used = 0;

	for (size_t i = 0; envp[i]; i++)
		if (strncmp(envp[i], name, n) || envp[i][n] != '=')
			envp[used++] = envp[i];
	envp[used] = NULL;
}

int startup_init(const struct state *state)
{
	char path[TAG_NAME_MAX + 1];
	int r;

	cpr__startup.argv = (char **)cpr__snapshot.argv;
	cpr__startup.envp = (char **)cpr__snapshot.envp;
	drop_variable(cpr__startup.envp, SETTINGS_STATE_FD);
	drop_variable(cpr__startup.envp, SETTINGS_GATE);
	cpr__startup.directory = start_directory();
	r = startup_note_path(cpr__startup.argv);
	if (r)
		return r;
	if (!cpr__startup.script && is_interpreter(cpr__startup.path) && first_file(cpr__startup.argv, path))
		cpr__startup.script = startup_copy_string(path);
	note_process();
	r = state && state->given.path ? startup_take_given(&state->given) : 0;
	return r ? r : note_heirlooms(state);
}

/* ---- restoring ---- */

void startup_restore_directory(void)
{
	umask(start.umask);
	if (cpr__startup.directory && chdir(cpr__startup.directory))
		log_warn("the directory %s of the start is gone (%m): the next generation starts where this one is",
			 cpr__startup.directory);
}

static void doorstop(int sig)
{
	(void)sig;
}

/*
 * exec keeps "ignored" and resets handlers. If SIGPIPE went from ignored to its default here, another thread could let
 * it kill us before the exec. So it gets a handler that does nothing, which exec resets to the default.
 */
static void restore_signals(void)
{
	for (int sig = 1; sig < _NSIG; sig++) {
		struct sigaction wanted = {.sa_handler = start.ignored[sig] ? SIG_IGN : doorstop,
					   .sa_flags = SA_RESTART};
		struct sigaction now;

		before.replaced[sig] = false;
		if (sig == SIGKILL || sig == SIGSTOP || next_sigaction(sig, NULL, &now))
			continue;
		if ((now.sa_handler == SIG_IGN) == start.ignored[sig])
			continue;
		before.replaced[sig] = !next_sigaction(sig, &wanted, &before.actions[sig]);
	}
}

void startup_restore_process(void)
{
	static const struct itimerval off;

	for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++)
		setitimer(which, &off, &before.timers[which]);
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		struct rlimit limit = {0};

		getrlimit(i, &before.limits[i]);
		limit = before.limits[i];
		limit.rlim_cur = start.limits[i].rlim_cur < limit.rlim_max ? start.limits[i].rlim_cur : limit.rlim_max;
		if (limit.rlim_cur != before.limits[i].rlim_cur)
			setrlimit(i, &limit);
	}
	sched_getaffinity(0, sizeof(before.processors), &before.processors);
	if (start.processors_known && !CPU_EQUAL(&start.processors, &before.processors))
		sched_setaffinity(0, sizeof(start.processors), &start.processors);
	/* of this task only, as the affinity is; nice(2) adds, and would add up */
	if (!cpr__snapshot.filters) /* under one, the task has not changed it */
		setpriority(PRIO_PROCESS, 0, start.nice);
	next_prctl(PR_SET_PDEATHSIG, (unsigned long)start.parent_death_signal, 0, 0, 0); /* a new task has none */
	restore_signals();
}

void startup_put_back(void)
{
	for (int sig = 1; sig < _NSIG; sig++)
		if (before.replaced[sig])
			next_sigaction(sig, &before.actions[sig], NULL);
	for (int i = 0; i < RLIM_NLIMITS; i++)
		setrlimit(i, &before.limits[i]);
	for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++)
		setitimer(which, &before.timers[which], NULL);
}

static bool everything_is_blocked(uint64_t mask)
{
	sigset_t all;
	uint64_t ours;

	guard_fill(&all);
	memcpy(&ours, &all, sizeof(ours));
	ours &= ~(1UL << (SIGKILL - 1) | 1UL << (SIGSTOP - 1)); /* the kernel never blocks these */
	return (mask & ours) == ours;
}

/*
 * A signal that the last generation had a handler for, and left pending: its default action would end this one. What
 * it asks for (read the configuration, open the log) the start does anyway. A signal that asks for an end is left.
 */
static void drop_pending(uint64_t blocked)
{
	static const int left[] = {SIGTERM, SIGINT, SIGQUIT, SIGCHLD, SIGURG, SIGWINCH, SIGCONT};
	struct timespec at_once = {0};
	uint64_t drop = ~blocked;

	for (size_t i = 0; i < countof(left); i++)
		drop &= ~(UINT64_C(1) << (left[i] - 1));
	for (int i = 0; i < _NSIG; i++)
		if (next_sys(SYS_rt_sigtimedwait, &drop, NULL, &at_once, _NSIG / 8) < 0)
			break;
}

void startup_let_through(uint64_t blocked, bool drop)
{
	if (!everything_is_blocked(cpr__snapshot.mask)) /* an older library has set the mask itself */
		return;
	cpr__snapshot.mask = blocked;
	blocked |= UINT64_C(1) << (cpr__settings.signal - 1);
	if (cpr__settings.restart_signal)
		blocked |= UINT64_C(1) << (cpr__settings.restart_signal - 1);
	if (drop)
		drop_pending(blocked);
	next_sys(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, NULL, _NSIG / 8);
}

static bool is_socket(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISSOCK(st.st_mode);
}

/*
 * A daemon points 0, 1 and 2 at /dev/null: the next one gets them like that. A connection that landed there is not
 * passed on.
 */
bool startup_is_heirloom(int fd)
{
	for (size_t i = 0; i < cpr__startup.heirloom_count; i++) {
		const struct heirloom *h = &cpr__startup.heirlooms[i];
		struct object object = {.dev = h->dev, .ino = h->ino};

		if (h->fd == fd)
			return object_still(&object, fd) || (fd <= STDERR_FILENO && !is_socket(fd));
	}
	return false;
}
