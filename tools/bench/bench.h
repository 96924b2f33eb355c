/* SPDX-License-Identifier: MIT */
/* What a benchmark gets, and what it reports: figures taken in pairs, as ratios with their spread. */
#ifndef CPR_BENCH_H
#define CPR_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the command line said; the same for every benchmark. */
struct bench {
	bool json;            /* no tables: the report goes to stdout as JSON at the end */
	bool quick;           /* a tenth of the rounds: does it run, not how fast is it */
	const char *library;  /* libcpr.so, absolute */
	const char *exec;     /* cpr-exec */
	const char *ctl;      /* cprctl */
	const char *out;      /* directory for the plots, or NULL: no plots */
	const char *self;     /* this program, which starts itself as a child: see bench_child */
	struct report *report;
};

/* ---- figures ---- */

struct figure {
	double median;
	double low, high; /* the quartiles */
	size_t rounds;
};

/* Sorts `values`, and returns their median and quartiles. All zero if there are none. */
struct figure figure_of(double *values, size_t count);

/* CLOCK_MONOTONIC in ns. */
int64_t bench_now(void);

/* A generator that gives the same numbers in every run: xoshiro256** (Blackman and Vigna). */
struct bench_random {
	uint64_t state[4];
};
void bench_seed(struct bench_random *r, uint64_t seed);
uint64_t bench_random(struct bench_random *r);
void bench_shuffle(struct bench_random *r, uint32_t *values, size_t count);

/* One way of doing it: ns for `count` operations, or a negative errno. */
typedef double (*bench_way)(void *arg, size_t count);

/*
 * Runs two ways by turns; the first of a pair changes from round to round. Each of `rounds` has `count` operations of
 * each, after one that does not count. *a and *b are ns per operation; *ratio is b to a in each pair, which noise does
 * not move. Returns 0, or a negative errno of a way that failed.
 */
int bench_pair(bench_way way_a, void *arg_a, bench_way way_b, void *arg_b, size_t rounds, size_t count,
	       struct figure *a, struct figure *b, struct figure *ratio);

/* ---- the report ---- */

enum bench_wanted { WANTED_NOTHING, WANTED_AT_MOST, WANTED_AT_LEAST };

/*
 * One line of a benchmark's table. All is copied.
 * what                    "open+close, 1 thread"
 * ours_name, theirs_name  "with cpr", "GHashTable"
 * unit                    of both figures: "ns"; theirs may be NULL
 * ratio                   may be NULL
 * wanted, limit           the target of the ratio's median, or of ours without a ratio
 */
struct bench_line {
	const char *what;
	const char *ours_name, *theirs_name, *unit;
	struct figure ours;
	const struct figure *theirs, *ratio;
	enum bench_wanted wanted;
	double limit;
};
void report_section(struct report *report, const char *name, const char *method);
void report_line(struct report *report, const struct bench_line *line);

/*
 * Shows progress on stderr, as "lookup: 7,530 descriptors, round 3 of 9". On a terminal that is one line, which is
 * overwritten; elsewhere a line every 5 seconds at most.
 */
void report_progress(struct report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A sentence under the table, and in the JSON: what could not be measured, and why. */
void report_note(struct report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- the benchmarks: 0; or a negative errno, with the reason on stderr ---- */

int bench_lookup(struct bench *bench);
int bench_calls(struct bench *bench);
int bench_exec(struct bench *bench);
int bench_restart(struct bench *bench);
int bench_throughput(struct bench *bench);

/*
 * `cpr-bench --child NAME ARG...`: the halves of benchmarks that run in a process of their own, with the library or
 * without. Returns the exit status.
 */
int bench_lookup_child(int argc, char **argv);
int bench_calls_child(int argc, char **argv);
int bench_exec_child(int argc, char **argv);

#endif
