/* SPDX-License-Identifier: MIT */
/*
 * Saved descriptors over one exec: from execve to the last one found, against a bare exec that merely inherits as many.
 */
#define _GNU_SOURCE
#include "bench.h"

#include "base/attr.h"
#include "cpr.h"
#include "base/io.h"
#include "own.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/close_range.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const struct size {
	size_t count, rounds;
} sizes[] = {{540, 40}, {2870, 40}, {7530, 30}, {100000, 10}, {1000000, 4}};

enum { SPARE = 64, FIRST = STDERR_FILENO + 1, WANTED_FROM = 7530 };
#define WANTED_TIMES 1.5 /* what the system calls alone take */

/*
 * What a child does. BARE: inherits the descriptors, without the library. SAVED: saves and finds them. CALLS: makes
 * only the system calls that the library needs for each: F_GETFD, F_SETFD; after the exec fstat, F_SETFD, getpid.
 */
enum way { BARE, SAVED, CALLS };

/*
 * A child's result when it has found all descriptors, in ns. `own`: the process's CPU time, which goes on over an exec.
 * Nothing in it sleeps.
 */
struct result {
	int64_t own, whole, finding;
};

/* ---- a child ---- */

static int64_t own_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int give_up(const char *what)
{
	fprintf(stderr, "cpr-bench: %s: %s\n", what, strerror(errno));
	return 1;
}

static int allow(size_t count)
{
	struct rlimit limit = {count + SPARE, count + SPARE}, now;

	if (getrlimit(RLIMIT_NOFILE, &now))
		return -1;
	if (now.rlim_cur >= limit.rlim_cur)
		return 0;
	limit.rlim_max = now.rlim_max > limit.rlim_max ? now.rlim_max : limit.rlim_max;
	return setrlimit(RLIMIT_NOFILE, &limit);
}

/* How many this process, and so a child, may have open at most, up to `count`. */
static size_t allowed(size_t count)
{
	struct rlimit before;

	if (getrlimit(RLIMIT_NOFILE, &before))
		return 0;
	if (!allow(count)) {
		setrlimit(RLIMIT_NOFILE, &before);
		return count;
	}
	return before.rlim_max > SPARE ? before.rlim_max - SPARE : 0;
}

/* Of all: the obvious loop takes both for each, and finds the second one in the cache. */
static void open_the_way(size_t count)
{
	for (size_t i = 0; i < count; i++)
		fcntl((int)i + FIRST, F_GETFD);
	for (size_t i = 0; i < count; i++)
		fcntl((int)i + FIRST, F_SETFD, 0);
}

static void take_over(size_t count)
{
	struct stat st;

	for (size_t i = 0; i < count; i++)
		fstat((int)i + FIRST, &st);
	close_range(FIRST, FIRST + (unsigned)count - 1, CLOSE_RANGE_CLOEXEC);
	for (size_t i = 0; i < count; i++)
		syscall(SYS_getpid);
}

/* The first generation: with the library, close-on-exec and saved; without, only open. */
static int prepare(size_t count, char **argv, enum way way, __typeof__(&cpr_save_fd) save)
{
	char at[24], own[24];

	if (allow(count))
		return give_up("setrlimit");
	for (size_t i = 0; i < count; i++) {
		int fd = eventfd(0, way == BARE ? 0 : EFD_CLOEXEC);

		if (fd < 0 || (save && save("bench", (int)i, fd)))
			return give_up(fd < 0 ? "eventfd" : "cpr_save_fd");
	}
	snprintf(at, sizeof(at), "%" PRId64, bench_now());
	snprintf(own, sizeof(own), "%" PRId64, own_now());
	if (way == CALLS)
		open_the_way(count);
	execv("/proc/self/exe", (char *[]){argv[-2], argv[-1], argv[0], argv[1], argv[2], at, own, NULL});
	return give_up("execv");
}

static int find_all(size_t count, enum way way, int64_t since, int64_t own_since, __typeof__(&cpr_find_fd) find)
{
	struct result result;
	int64_t start = bench_now();
	size_t open = 0;
	int last = -1;

	if (way == CALLS)
		take_over(count);
	for (size_t i = 0; find && i < count; i++)
		if ((last = find("bench", (int)i)) < 0)
			return give_up("cpr_find_fd");
	result.own = own_now() - own_since;
	result.whole = bench_now() - since;
	result.finding = bench_now() - start;
	for (size_t i = 0, fd = FIRST; i < count + SPARE; i++)
		open += fcntl((int)(fd + i), F_GETFD) >= 0;
	if (open < count) {
		fprintf(stderr, "cpr-bench: %zu descriptors of %zu came over the exec\n", open, count);
		return 1;
	}
	return write(STDOUT_FILENO, &result, sizeof(result)) != sizeof(result);
}

/* exec COUNT WAY, and in the next generation when it was called, by both clocks. */
int bench_exec_child(int argc, char **argv)
{
	__typeof__(&cpr_save_fd) save = (__typeof__(&cpr_save_fd))dlsym(RTLD_DEFAULT, "cpr_save_fd");
	__typeof__(&cpr_find_fd) find = (__typeof__(&cpr_find_fd))dlsym(RTLD_DEFAULT, "cpr_find_fd");
	size_t count = argc >= 3 ? strtoul(argv[1], NULL, 10) : 0;
	enum way way = count ? (enum way)atoi(argv[2]) : BARE;

	if (!count || (way == SAVED) != (save != NULL)) {
		fputs("cpr-bench: the library is where it should not be, or is not where it should\n", stderr);
		return 1;
	}
	return argc == 3 ? prepare(count, argv, way, save)
			 : find_all(count, way, strtoll(argv[3], NULL, 10), strtoll(argv[argc - 1], NULL, 10), find);
}

/* ---- its parent ---- */

struct run {
	const struct bench *bench;
	enum way way;
	const char *log; /* CPR_LOG, or NULL */
	struct result result;
};

static int start(const struct run *run, size_t count, int out, pid_t *pid)
{
	char number[24], way[] = {(char)('0' + run->way), '\0'}, log[64];
	char *argv[] = {(char *)run->bench->exec, (char *)"--", (char *)run->bench->self,        (char *)"--child",
			(char *)"exec",           number,       way, NULL};
	char *env[] = {run->log ? log : NULL, NULL};
	posix_spawn_file_actions_t actions;
	char **args = argv + (run->way == SAVED ? 0 : 2);
	int r;

	snprintf(number, sizeof(number), "%zu", count);
	snprintf(log, sizeof(log), "CPR_LOG=debug:%s", run->log ? run->log : "");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	r = posix_spawn(pid, args[0], &actions, NULL, args, env);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

/* A bench_way: one program, from its start to its end; what counts it has measured itself. */
static double run_once(void *arg, size_t count)
{
	struct run *run = arg;
	int ends[2], status, r;
	ssize_t n;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	r = start(run, count, ends[1], &pid);
	close(ends[1]);
	if (r) {
		close(ends[0]);
		return r;
	}
	n = read(ends[0], &run->result, sizeof(run->result));
	close(ends[0]);
	if (waitpid(pid, &status, 0) != pid || status || n != sizeof(run->result))
		return -ECHILD;
	return (double)run->result.own;
}

/* The number behind `word` in the log; 0 if it is not there. */
static double logged(const char *text, const char *word)
{
	const char *at = strstr(text, word);

	return at ? strtod(at + strlen(word), NULL) * 1e3 : 0;
}

static const struct phase {
	const char *what, *word;
} phases[] = {
	{"checked before", "checked in "}, {"state written", "state written in "}, {"flags", "flags set in "},
	{"state read", "state read in "},  {"checked after", "adopted in "},
};

enum { FINDING = countof(phases), REST, PARTS };

/* Once more with the library's own clocks on: ns per descriptor of each part. */
static int look_inside(const struct bench *bench, size_t count, double parts[PARTS])
{
	char path[] = "/tmp/cpr-bench.XXXXXX";
	cleanup_fd int fd = mkstemp(path);
	struct run run = {.bench = bench, .way = SAVED, .log = path};
	char text[16384];
	double whole;
	ssize_t n;

	if (fd < 0)
		return -errno;
	whole = run_once(&run, count);
	whole = whole < 0 ? whole : (double)run.result.whole;
	n = pread(fd, text, sizeof(text) - 1, 0);
	unlink(path);
	if (whole < 0 || n < 0)
		return whole < 0 ? (int)whole : -EIO;
	text[n] = '\0';
	parts[REST] = whole;
	for (size_t i = 0; i <= FINDING; i++) {
		parts[i] = i < FINDING ? logged(text, phases[i].word) : (double)run.result.finding;
		parts[REST] -= parts[i];
	}
	for (size_t i = 0; i < PARTS; i++)
		parts[i] /= (double)count;
	return 0;
}

static int say_parts(const struct bench *bench, const struct size *size)
{
	double rounds[PARTS][5];
	size_t n = bench->quick ? 1 : size->count > 100000 ? 2 : 5;
	struct figure of[PARTS];

	for (size_t i = 0; i < n; i++) {
		double parts[PARTS];
		int r = look_inside(bench, size->count, parts);

		if (r)
			return r;
		for (size_t j = 0; j < PARTS; j++)
			rounds[j][i] = parts[j];
	}
	for (size_t j = 0; j < PARTS; j++)
		of[j] = figure_of(rounds[j], n);
	report_note(bench->report,
		    "%zu: of that, in ns per descriptor, %.0f to check them before, %.0f to write the state, %.0f for "
		    "the flags, %.0f for exec and the program's start, "
		    "%.0f to read the state into the table, %.0f to check them after, %.0f to find them",
		    size->count, of[0].median, of[1].median, of[2].median, of[REST].median, of[3].median, of[4].median,
		    of[FINDING].median);
	return 0;
}

/* One way beside ours, in pairs. */
static int compare(const struct bench *bench, const struct size *size, enum way way, const char *name)
{
	struct run theirs = {.bench = bench, .way = way}, ours = {.bench = bench, .way = SAVED};
	bool wanted = way == CALLS && size->count >= WANTED_FROM;
	struct figure a, b, ratio;
	char what[64];
	int r = bench_pair(run_once, &theirs, run_once, &ours, bench->quick ? (size->rounds + 9) / 10 : size->rounds,
			   size->count, &a, &b, &ratio);

	if (r)
		return r;
	snprintf(what, sizeof(what), "%zu descriptors, %s", size->count, name);
	report_line(bench->report, &(struct bench_line){.what = what,
							.ours_name = "saved, found",
							.theirs_name = "beside it",
							.unit = "ns",
							.ours = b,
							.theirs = &a,
							.ratio = &ratio,
							.wanted = wanted ? WANTED_AT_MOST : WANTED_NOTHING,
							.limit = WANTED_TIMES});
	return 0;
}

static int measure(const struct bench *bench, const struct size *size)
{
	int r = compare(bench, size, BARE, "a bare exec");

	if (!r)
		r = compare(bench, size, CALLS, "the system calls alone");
	return r ? r : say_parts(bench, size);
}

int bench_exec(struct bench *bench)
{
	int r = 0;

	report_section(bench->report, "exec",
		       "a program saves eventfds that are close-on-exec with cpr_save_fd, execs itself, and finds each "
		       "with cpr_find_fd: from the call of execve to the last one found; "
		       "by turns with the same program without the library, whose eventfds are merely inherited, or "
		       "which makes the system calls that each takes: F_GETFD, F_SETFD, fstat, getpid. ns of the "
		       "process's own time per descriptor");
	for (size_t i = 0; i < countof(sizes) && !r; i++) {
		struct size size = {allowed(sizes[i].count), sizes[i].rounds};
		bool less = size.count < sizes[i].count;

		if (less)
			report_note(bench->report,
				    "%zu descriptors and more cannot be measured here: RLIMIT_NOFILE cannot be raised "
				    "above %zu",
				    sizes[i].count, size.count + SPARE);
		if (less && size.count <= sizes[i ? i - 1 : 0].count)
			break;
		report_progress(bench->report, "exec: %zu descriptors", size.count);
		r = measure(bench, &size);
		if (less)
			break;
	}
	return r;
}
