/* SPDX-License-Identifier: MIT */
/*
 * lookup: the table against QEMU's list and against GLib's hash table. Each size runs in a process of its own under the
 * library.
 */
#define _GNU_SOURCE
#include "base/attr.h"
#include "bench.h"
#include "launch.h"
#include "lookup.h"
#include "own.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const size_t sizes[] = {540, 2870, 7530, 100000, 1000000};

enum { OTHER_FDS = 64 }; /* that a process has besides */

/* What is wanted of finding, hits and misses, in times of the other's speed. */
static double wanted(enum lookup_rival rival, size_t size)
{
	if (rival == RIVAL_LIST)
		return size == 7530 ? 150 : 0;
	return size <= 7530 ? 1.5 : size <= 100000 ? 1.2 : size <= 1000000 ? 1.0 : 0;
}

/* ---- the parent: a child for each size ---- */

static const char *thousands(size_t n, char out[32])
{
	if (n >= 1000000)
		snprintf(out, 32, "%zu,%03zu,%03zu", n / 1000000, n / 1000 % 1000, n % 1000);
	else if (n >= 1000)
		snprintf(out, 32, "%zu,%03zu", n / 1000, n % 1000);
	else
		snprintf(out, 32, "%zu", n);
	return out;
}

/* The most descriptors, up to `size`, that the limits can be raised to. */
static size_t possible(size_t size)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return 0;
	if (limit.rlim_cur < size + OTHER_FDS) {
		struct rlimit raised = {size + OTHER_FDS,
					limit.rlim_max > size + OTHER_FDS ? limit.rlim_max : size + OTHER_FDS};

		if (setrlimit(RLIMIT_NOFILE, &raised)) {
			limit.rlim_cur = limit.rlim_max;
			setrlimit(RLIMIT_NOFILE, &limit);
		}
		getrlimit(RLIMIT_NOFILE, &limit);
	}
	return limit.rlim_cur >= size + OTHER_FDS ? size : limit.rlim_cur - OTHER_FDS;
}

static pid_t start_child(struct bench *bench, size_t size, int out)
{
	size_t open = possible(size);
	pid_t pid = fork();
	char number[32], of_which[32];

	if (pid)
		return pid;
	snprintf(number, sizeof(number), "%zu", size);
	snprintf(of_which, sizeof(of_which), "%zu", open);
	if (dup2(out, STDOUT_FILENO) >= 0 && !launch_preload(bench->library, "/proc/self/exe"))
		execl(bench->self, bench->self, "--child", "lookup", number, of_which, bench->quick ? "quick" : "full",
		      (char *)NULL);
	_exit(127);
}

static void add(struct report *report, size_t size, const struct lookup_result *result)
{
	static const char *const whats[] = {
		[LOOKUP_HIT] = "find, there", [LOOKUP_MISS] = "find, not there",      [LOOKUP_INSERT] = "save",
		[LOOKUP_DELETE] = "delete",   [LOOKUP_MEMORY] = "memory of an entry",
	};
	double limit = result->what == LOOKUP_HIT || result->what == LOOKUP_MISS ? wanted(result->rival, size) : 0;
	char what[64], number[32];

	snprintf(what, sizeof(what), "%s, of %s", whats[result->what], thousands(size, number));
	report_line(report, &(struct bench_line){
		.what = what,
		.ours_name = "CPR",
		.theirs_name = result->rival == RIVAL_LIST ? "LIST" : "GHASHTABLE",
		.unit = result->what == LOOKUP_MEMORY ? "bytes" : "ns",
		.ours = result->ours,
		.theirs = &result->theirs,
		.ratio = &result->ratio,
		.wanted = limit > 0 ? WANTED_AT_LEAST : WANTED_NOTHING,
		.limit = limit,
	});
}

/* What the child tells, until it ends; how many, or a negative errno. */
static int collect(struct bench *bench, size_t size, FILE *from, struct lookup_result results[LOOKUP_RESULTS])
{
	char number[32];
	int n = 0;

	report_progress(bench->report, "lookup: %s descriptors", thousands(size, number));
	while (n < LOOKUP_RESULTS && fread(&results[n], sizeof(*results), 1, from) == 1) {
		if ((unsigned)results[n].what >= LOOKUP_KINDS || (unsigned)results[n].rival >= RIVALS)
			return -EBADMSG;
		n++;
		report_progress(bench->report, "lookup: %s descriptors, %d of %d comparisons", number, n,
				LOOKUP_RESULTS);
	}
	return ferror(from) ? -EIO : n;
}

static int measure(struct bench *bench, size_t size, struct lookup_result results[LOOKUP_RESULTS])
{
	cleanup_file FILE *from = NULL;
	int ends[2], status, n;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	from = fdopen(ends[0], "r");
	pid = from ? start_child(bench, size, ends[1]) : -1;
	n = pid < 0 ? -errno : 0;
	close(ends[1]);
	if (!from)
		close(ends[0]);
	if (n)
		return n;
	n = collect(bench, size, from, results);
	if (waitpid(pid, &status, 0) != pid)
		return -errno;
	return n < 0 ? n : !WIFEXITED(status) || WEXITSTATUS(status) ? -ECHILD : n;
}

int bench_lookup(struct bench *bench)
{
	struct lookup_result results[countof(sizes)][LOOKUP_RESULTS];
	int counts[countof(sizes)];

	report_section(bench->report, "lookup",
		       "processor time for one of N operations in random order over N descriptors, names of 15 to 60 "
		       "bytes; ratio: times as fast, or as small");
	for (size_t i = 0; i < countof(sizes); i++) {
		counts[i] = measure(bench, sizes[i], results[i]);
		if (counts[i] < 0)
			return counts[i];
	}
	for (int rival = 0; rival < RIVALS; rival++)
		for (int what = 0; what < LOOKUP_KINDS; what++)
			for (size_t i = 0; i < countof(sizes); i++)
				for (int n = 0; n < counts[i]; n++)
					if ((int)results[i][n].rival == rival && (int)results[i][n].what == what)
						add(bench->report, sizes[i], &results[i][n]);
	if (possible(sizes[countof(sizes) - 1]) < sizes[countof(sizes) - 1]) {
		char got[32];

		thousands(possible(sizes[countof(sizes) - 1]), got);
		report_note(bench->report,
			    "No more than %s descriptors can be open here: the limit (RLIMIT_NOFILE) cannot be raised. "
			    "For more, the table is",
			    got);
		report_note(bench->report, "measured without the API around it: saving and deleting then make no "
					   "system calls. Finding makes none in either.");
	}
	report_note(bench->report, "QEMU's developers measured 936,753, 24,102,342 and 152,715,916 ns for N lookups in "
				   "their list of 540, 2,870 and 7,530, and");
	report_note(bench->report, "393,358, 2,212,113 and 5,474,310 ns in a GHashTable, on a machine of their own.");
	report_note(bench->report, "cpr_save_fd asks the kernel what the descriptor is, and both it and cpr_delete_fd "
				   "hold off signals; the others do neither.");
	return 0;
}
