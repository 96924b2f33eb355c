/* SPDX-License-Identifier: MIT */
/* Runs a course of restarts, and takes its figures from the clients' records. */
#define _GNU_SOURCE
#include "course.h"

#include "base/attr.h"
#include "own.h"

#include <errno.h>
#include <string.h>

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)

enum { KEPT_CLIENTS = 16, NEW_PART = 4 /* of so many requests, one is on a connection of its own */ };

/*
 * A round: load for `lead`, the restart, load for `after` it was requested, and for `settle` at least after it was
 * done.
 */
struct pace {
	size_t rounds;
	int64_t lead, after, settle;
};

static const struct pace full = {COURSE_RESTARTS, 300 * MS, 800 * MS, 300 * MS},
			 quick = {1, 200 * MS, 500 * MS, 200 * MS};

static const struct pace *pace_of(const struct bench *bench)
{
	return bench->quick ? &quick : &full;
}

size_t course_rounds(const struct bench *bench)
{
	return pace_of(bench)->rounds;
}

/* ---- a round ---- */

static int restart_once(struct course *course, int64_t *requested)
{
	const struct pace *pace = pace_of(course->service.bench);
	size_t i = course->restarts;
	struct service_times times;
	int64_t done;
	int r = service_sleep_until(bench_now() + pace->lead);

	if (r)
		return r;
	*requested = bench_now();
	r = service_restart(&course->service, &times);
	done = bench_now();
	course->values[COURSE_READY][i] = (double)times.ready / MS;
	course->values[COURSE_START][i] = (double)times.start / MS;
	course->values[COURSE_CPRCTL][i] = (double)times.cprctl / MS;
	course->values[COURSE_DRAIN][i] = (double)times.drain / MS;
	course->values[COURSE_GATE][i] = (double)times.gate / MS;
	if (r)
		return r;
	return service_sleep_until(*requested + pace->after > done + pace->settle ? *requested + pace->after
										  : done + pace->settle);
}

/* `shift`: from the clock to the course's own time. */
static int keep_records(struct course *course, const struct load_record *records, size_t count, int64_t shift)
{
	struct load_record *grown = reallocarray(course->records, course->count + count + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	course->records = grown;
	for (size_t i = 0; i < count; i++) {
		grown[course->count + i] = records[i];
		grown[course->count + i].due += shift;
	}
	course->count += count;
	return 0;
}

static int run_round(struct course *course, struct load *load, int64_t began)
{
	int64_t requested = 0, ended, shift = course->length - began;
	const struct load_record *records;
	size_t i = course->restarts, count;
	int r = restart_once(course, &requested), stopped;

	ended = bench_now();
	stopped = load_stop(load, &records, &count);
	r = r ? r : stopped;
	if (!r)
		r = keep_records(course, records, count, shift);
	if (r)
		return r;
	course->at[i] = requested + shift;
	course->until[i] = course->length = ended + shift;
	course->restarts++;
	return 0;
}

int course_round(struct course *course)
{
	struct service *service = &course->service;
	const unsigned rate = service->server->rate;
	struct load_plan plan = {.protocol = service->server->protocol,
				 .port = service->port,
				 .kept = KEPT_CLIENTS,
				 .kept_rate = rate - rate / NEW_PART,
				 .new_rate = rate / NEW_PART};
	int64_t began = bench_now();
	struct load *load;
	int server_cpu, r;

	machine_processors(&server_cpu, &plan.cpu);
	r = load_start(&plan, &load);
	if (r)
		return r;
	r = run_round(course, load, began);
	load_free(&load);
	return r;
}

/* ---- figures ---- */

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* Nearest rank: a latency that some request had. */
static double percentile(const int64_t *sorted, size_t count, double part)
{
	size_t rank = (size_t)(part * (double)count);

	return (double)sorted[rank < count ? rank : count - 1] / MS;
}

/* `scratch` holds as many numbers as there are records. */
static void take_window(struct course *course, size_t window, int64_t *scratch)
{
	int64_t from = course->at[window], to = course->until[window], last = from, silence = 0;
	size_t n = 0, at_once = 0;

	for (size_t i = 0; i < course->count; i++) {
		const struct load_record *r = &course->records[i];

		if (r->outcome == LOAD_CLOSED || r->due < from || r->due >= to)
			continue;
		scratch[n++] = r->latency;
		at_once += r->outcome == LOAD_ANSWERED;
	}
	qsort(scratch, n, sizeof(*scratch), compare);
	course->values[COURSE_RATE][window] = (double)at_once * SECOND / (double)(to - from);
	course->values[COURSE_P50][window] = n ? percentile(scratch, n, 0.5) : 0;
	course->values[COURSE_P99][window] = n ? percentile(scratch, n, 0.99) : 0;
	course->values[COURSE_LONGEST][window] = n ? percentile(scratch, n, 1) : 0;
	n = 0;
	for (size_t i = 0; i < course->count; i++) {
		const struct load_record *r = &course->records[i];
		int64_t answered = r->due + r->latency;

		if (r->outcome != LOAD_CLOSED && answered >= from && answered < to)
			scratch[n++] = answered;
	}
	qsort(scratch, n, sizeof(*scratch), compare);
	for (size_t i = 0; i <= n; i++) {
		int64_t now = i < n ? scratch[i] : to;

		silence = now - last > silence ? now - last : silence;
		last = now;
	}
	course->values[COURSE_SILENCE][window] = (double)silence / MS;
}

static int take_figures(struct course *course)
{
	cleanup_free int64_t *scratch = calloc(course->count + 1, sizeof(*scratch));

	if (!scratch)
		return -ENOMEM;
	for (size_t i = 0; i < course->restarts; i++)
		take_window(course, i, scratch);
	for (size_t window = 0; window < course->restarts; window++)
		for (size_t i = 0; i < course->count; i++) {
			const struct load_record *r = &course->records[i];

			if (r->due < course->at[window] || r->due >= course->until[window])
				continue;
			course->outcomes[r->outcome]++;
			if (r->outcome != LOAD_CLOSED)
				scratch[course->requests++] = r->latency;
		}
	qsort(scratch, course->requests, sizeof(*scratch), compare);
	course->p999 = course->requests ? percentile(scratch, course->requests, 0.999) : 0;
	return 0;
}

size_t course_failed(const struct course *course)
{
	return course->requests - course->outcomes[LOAD_ANSWERED];
}

/* ---- the course ---- */

int course_begin(struct course *course, const struct bench *bench, const struct server *server, const struct way *way)
{
	int64_t took;
	int r;

	*course = (struct course){0};
	r = service_open(&course->service, bench, server, way);
	if (!r)
		r = service_start(&course->service, &took);
	course->runs = !r;
	return r;
}

int course_end(struct course *course)
{
	const struct server *server = course->service.server;
	const struct way *way = course->service.way;
	int r = 0;

	service_close(&course->service);
	course->service.server = server; /* for messages and plots */
	course->service.way = way;
	if (course->runs)
		r = take_figures(course);
	course->runs &= !r;
	return r;
}

void course_free(struct course *course)
{
	free(course->records);
	*course = (struct course){0};
}
