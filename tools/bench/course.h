/* SPDX-License-Identifier: MIT */
/* One server restarted again and again in one way, under load, and what its clients saw of each restart. */
#ifndef CPR_BENCH_COURSE_H
#define CPR_BENCH_COURSE_H

#include "service.h"

enum { COURSE_RESTARTS = 10 };

/* A figure for each restart: over the requests that were due from it until the next one. */
enum course_metric {
	COURSE_RATE, /* requests answered at the first attempt, per second */
	COURSE_P50,  /* latency, ms, as the others */
	COURSE_P99,
	COURSE_P999,
	COURSE_LONGEST,
	COURSE_SILENCE, /* the longest time without any answer */
	COURSE_READY,   /* from the request to restart until the next generation alone serves */
	COURSE_START,   /* WAY_STOP: from its start to its first answer */
	COURSE_CPRCTL,  /* WAY_CPR: as cprctl says */
	COURSE_DRAIN,   /* of that, until all connections stood between two requests */
	COURSE_METRICS,
};

struct course {
	const struct server *server;
	const struct way *way; /* NULL: it did not take place */
	struct load *load;
	const struct load_record *records;
	size_t count;
	int64_t began, ended;
	size_t restarts;
	int64_t at[COURSE_RESTARTS]; /* when each was requested */
	double values[COURSE_METRICS][COURSE_RESTARTS];
	size_t requests, outcomes[LOAD_OUTCOMES]; /* from the first restart on */
};

/* 0, or a negative errno after saying why. course_free afterwards in either case. */
int course_run(struct course *course, const struct bench *bench, const struct server *server, const struct way *way);
void course_free(struct course *course);

/* Requests that failed at their first attempt. */
size_t course_failed(const struct course *course);

#endif
