/* SPDX-License-Identifier: MIT */
/* The benchmark of restarts: every server in each of its ways, and what clients saw, cpr against the others. */
#define _GNU_SOURCE
#include "base/attr.h"
#include "course.h"
#include "courses_plot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char method[] =
	"1,000 requests a second (500 to python and gunicorn), a quarter of them on connections of their own, the "
	"rest by 16 keep-alive clients; "
	"a latency counts from the moment in which the request was due; what fails is tried again after 2 ms. All "
	"ways of a server by turns; "
	"the figures are of the 0.8 seconds from each restart on; ratio: cpr to the other, the i-th restarts of both.";

static const struct {
	const char *what, *unit;
	enum course_metric metric;
} metrics[] = {
	{"answered at the first attempt", "/s", COURSE_RATE},
	{"latency, median", "ms", COURSE_P50},
	{"latency, 99 %", "ms", COURSE_P99},
	{"latency, longest", "ms", COURSE_LONGEST},
	{"longest time without an answer", "ms", COURSE_SILENCE},
	{"from request to ready", "ms", COURSE_READY},
};

/* Adds the ratio, first to second, of each pair: the i-th restarts of both. `names` names the two. */
static void add_pairs(struct bench *bench, const struct bench_line *names, const char *what, const char *unit,
		      const double *ours, const double *theirs, size_t count)
{
	double a[COURSE_RESTARTS], b[COURSE_RESTARTS], ratios[COURSE_RESTARTS];
	struct figure their_figure, ratio;
	struct bench_line line = *names;

	for (size_t i = 0; i < count; i++) {
		a[i] = ours[i];
		b[i] = theirs[i];
		ratios[i] = theirs[i] > 0 ? ours[i] / theirs[i] : 0;
	}
	their_figure = figure_of(b, count);
	ratio = figure_of(ratios, count);
	line.what = what;
	line.unit = unit;
	line.ours = figure_of(a, count);
	line.theirs = &their_figure;
	line.ratio = &ratio;
	report_line(bench->report, &line);
}

static struct figure total(size_t count, size_t restarts)
{
	return (struct figure){(double)count, (double)count, (double)count, restarts};
}

static void add_count(struct bench *bench, const struct bench_line *names, const char *what, size_t ours, size_t theirs,
		      size_t restarts)
{
	const struct figure their_total = total(theirs, restarts);
	struct bench_line line = *names;

	line.what = what;
	line.ours = total(ours, restarts);
	line.theirs = &their_total;
	line.wanted = WANTED_AT_MOST;
	report_line(bench->report, &line);
}

static void compare(struct bench *bench, const struct course *ours, const struct course *theirs)
{
	const struct bench_line names = {
		.ours_name = ours->service.way->name, .theirs_name = theirs->service.way->name, .unit = ""};
	size_t count = ours->restarts < theirs->restarts ? ours->restarts : theirs->restarts;

	add_count(bench, &names, "requests failed", course_failed(ours), course_failed(theirs), count);
	add_count(bench, &names, "keep-alive connections ended", ours->outcomes[LOAD_CLOSED],
		  theirs->outcomes[LOAD_CLOSED], count);
	for (size_t i = 0; i < countof(metrics); i++)
		add_pairs(bench, &names, metrics[i].what, metrics[i].unit, ours->values[metrics[i].metric],
			  theirs->values[metrics[i].metric], count);
	add_pairs(bench, &names, "latency, 99.9 % of all", "ms", &ours->p999, &theirs->p999, 1);
	if (theirs->service.way->kind == WAY_STOP)
		add_pairs(bench, &names, "request to ready; cold start alone", "ms", ours->values[COURSE_READY],
			  theirs->values[COURSE_START], count);
}

static struct figure figure_of_metric(const struct course *course, enum course_metric metric)
{
	double values[COURSE_RESTARTS];

	memcpy(values, course->values[metric], sizeof(values));
	return figure_of(values, course->restarts);
}

/* How what failed failed. */
static void add_note(struct bench *bench, const struct course *course)
{
	const size_t *n = course->outcomes;

	report_note(bench->report,
		    "%s: of %zu requests %zu were refused, %zu cut, %zu answered wrongly, %zu not at all; %zu idle "
		    "connections were closed.",
		    course->service.way->name, course->requests, n[LOAD_REFUSED], n[LOAD_CUT], n[LOAD_GARBLED],
		    n[LOAD_STALLED], n[LOAD_CLOSED]);
	if (course->service.way->kind == WAY_CPR) {
		bool handover = course->service.way->handover;
		struct figure ready = figure_of_metric(course, COURSE_CPRCTL),
			      part = figure_of_metric(course, handover ? COURSE_GATE : COURSE_DRAIN);

		report_note(bench->report,
			    "%s: as cprctl says, ready after %.1f ms (quartiles %.1f to %.1f), %s %.1f (%.1f to %.1f).",
			    course->service.way->name, ready.median, ready.low, ready.high,
			    handover ? "and neither generation accepted for" : "of that drained after", part.median,
			    part.low, part.high);
	}
}

/*
 * Every way by turns, so that the i-th restarts of all are of one moment; which goes first changes. 0, or the first
 * negative errno.
 */
static int run_rounds(struct bench *bench, const struct server *server, struct course *courses, size_t ways)
{
	size_t rounds = course_rounds(bench);
	int failed = 0;

	for (size_t round = 0; round <= rounds; round++)
		for (size_t i = 0; i < ways; i++) {
			size_t which = (round + i) % ways;
			struct course *course = &courses[which];
			int r = 0;

			report_progress(bench->report, "restart: %s, restart %zu of %zu, %s", server->name, round,
					rounds, server->ways[which].name);
			if (!round)
				r = course_begin(course, bench, server, &server->ways[which]);
			else if (course->runs)
				r = course_round(course);
			if (r == -EINTR)
				return r;
			if (r)
				report_note(bench->report, "%s: could not be measured: %s.", server->ways[which].name,
					    strerror(-r));
			course->runs &= !r;
			failed = failed ? failed : r;
		}
	return failed;
}

static int measure(struct bench *bench, const struct server *server, struct course courses[SERVER_WAYS])
{
	const struct course *drawn[SERVER_WAYS];
	int failed, server_cpu, clients_cpu;
	char name[64];
	size_t ways = 0;

	while (ways < SERVER_WAYS && server->ways[ways].name)
		ways++;
	snprintf(name, sizeof(name), "restart, %s", server->name);
	report_section(bench->report, name, server->about);
	machine_processors(&server_cpu, &clients_cpu);
	machine_pin(server_cpu);
	failed = run_rounds(bench, server, courses, ways);
	for (size_t i = 0; i < ways; i++) {
		int r = course_end(&courses[i]);

		failed = failed ? failed : r;
		drawn[i] = &courses[i];
	}
	machine_pin(-1);
	for (size_t i = 1; i < ways && courses[0].runs; i++)
		if (courses[i].runs)
			compare(bench, &courses[0], &courses[i]);
	for (size_t i = 0; i < ways; i++)
		if (courses[i].runs)
			add_note(bench, &courses[i]);
	snprintf(name, sizeof(name), "restart-%s", server->name);
	plot_courses(bench, name, drawn, ways, 1);
	return failed;
}

/* For a reader of only one picture. */
static void draw_overview(struct bench *bench, struct course (*courses)[SERVER_WAYS])
{
	const struct course *nginx = courses[server_find("nginx") - servers],
			    *redis = courses[server_find("redis") - servers];
	const struct course *const drawn[] = {&nginx[1], &redis[1], &nginx[2], &redis[2],
					      &nginx[0], &redis[0], &nginx[4], &redis[3]};

	plot_courses(bench, "restart", drawn, countof(drawn), 2);
}

/* Says which are missing. 0, or -ENOENT if one is that should be there. */
static int note_missing(struct bench *bench)
{
	char program[PATH_MAX];
	int missing = 0;

	for (size_t i = 0; i < server_count; i++)
		if (!program_find(servers[i].program, program)) {
			report_note(bench->report, "%s is not installed: not measured.", servers[i].name);
			missing = servers[i].optional ? missing : -ENOENT;
		}
	return missing;
}

int bench_restart(struct bench *bench)
{
	struct course(*courses)[SERVER_WAYS] = calloc(server_count, sizeof(*courses));
	char program[PATH_MAX];
	int failed;

	if (!courses)
		return -ENOMEM;
	report_section(bench->report, "restart", method);
	failed = note_missing(bench);
	service_begin();
	for (size_t i = 0; i < server_count && failed != -EINTR; i++) {
		int r = program_find(servers[i].program, program) ? measure(bench, &servers[i], courses[i]) : 0;

		failed = failed && r != -EINTR ? failed : r;
	}
	if (failed != -EINTR)
		draw_overview(bench, courses);
	for (size_t i = 0; i < server_count; i++)
		for (size_t k = 0; k < SERVER_WAYS; k++)
			course_free(&courses[i][k]);
	free(courses);
	service_end();
	return failed;
}
