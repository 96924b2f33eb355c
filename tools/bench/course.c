/* SPDX-License-Identifier: MIT */
/* Runs a course of restarts at an even pace, and takes its figures from the clients' records. */
#define _GNU_SOURCE
#include "course.h"

#include "attr.h"
#include "own.h"

#include <errno.h>
#include <string.h>

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)

enum { KEPT_CLIENTS = 16, NEW_PART = 4 /* of so many requests, one is on a connection of its own */ };

/* The pace: a restart each `period`, and later only if the last one took so long that `settle` after it is later. */
struct pace {
	size_t restarts;
	int64_t lead, period, settle;
};

static const struct pace full = {COURSE_RESTARTS, SECOND, SECOND, 500 * MS}, quick = {1, 300 * MS, 500 * MS, 200 * MS};

static int restart_all(struct course *course, struct service *service, const struct pace *pace)
{
	int64_t next = course->began + pace->lead;
	int r = 0;

	while (!r && course->restarts < pace->restarts) {
		size_t i = course->restarts;
		struct service_times times;

		r = service_sleep_until(next);
		if (r)
			break;
		course->at[i] = bench_now();
		report_progress(service->bench->report, "restart: %s, %s, restart %zu of %zu", service->server->name, service->way->name,
				i + 1, pace->restarts);
		r = service_restart(service, &times);
		course->values[COURSE_READY][i] = (double)times.ready / MS;
		course->values[COURSE_START][i] = (double)times.start / MS;
		course->values[COURSE_CPRCTL][i] = (double)times.cprctl / MS;
		course->values[COURSE_DRAIN][i] = (double)times.drain / MS;
		next = course->at[i] + pace->period;
		if (bench_now() + pace->settle > next)
			next = bench_now() + pace->settle;
		course->restarts++;
	}
	if (!r)
		r = service_sleep_until(next);
	course->ended = bench_now();
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
	int64_t from = course->at[window], to = window + 1 < course->restarts ? course->at[window + 1] : course->ended, last = from,
		silence = 0;
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
	course->values[COURSE_P999][window] = n ? percentile(scratch, n, 0.999) : 0;
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
	for (size_t i = 0; i < course->count; i++) {
		const struct load_record *r = &course->records[i];

		if (r->due < course->at[0] || r->due >= course->ended)
			continue;
		course->outcomes[r->outcome]++;
		course->requests += r->outcome != LOAD_CLOSED;
	}
	return 0;
}

size_t course_failed(const struct course *course)
{
	return course->requests - course->outcomes[LOAD_ANSWERED];
}

/* ---- the course ---- */

static int run(struct course *course, struct service *service, int clients_cpu)
{
	const unsigned rate = service->server->rate;
	const struct load_plan plan = {service->server->protocol, service->port,  clients_cpu, KEPT_CLIENTS,
				       rate - rate / NEW_PART,    rate / NEW_PART};
	int64_t took;
	int r = service_start(service, &took), stopped;

	if (r)
		return r;
	r = load_start(&plan, &course->load);
	if (r)
		return r;
	course->began = bench_now();
	r = restart_all(course, service, service->bench->quick ? &quick : &full);
	stopped = load_stop(course->load, &course->records, &course->count);
	return r ? r : stopped;
}

int course_run(struct course *course, const struct bench *bench, const struct server *server, const struct way *way)
{
	struct service service;
	int server_cpu, clients_cpu, r;

	*course = (struct course){.server = server};
	machine_processors(&server_cpu, &clients_cpu);
	machine_pin(server_cpu);
	r = service_open(&service, bench, server, way);
	if (!r)
		r = run(course, &service, clients_cpu);
	service_close(&service);
	machine_pin(-1);
	if (!r)
		r = take_figures(course);
	if (!r)
		course->way = way;
	return r;
}

void course_free(struct course *course)
{
	load_free(&course->load);
	*course = (struct course){0};
}
