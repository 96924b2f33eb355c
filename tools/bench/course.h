/* SPDX-License-Identifier: MIT */
/* One server restarted in one way, round by round, under load, and what its clients saw of each restart. */
#ifndef CPR_BENCH_COURSE_H
#define CPR_BENCH_COURSE_H

#include "service.h"

enum { COURSE_RESTARTS = 10 };

/* A figure for each restart: over the requests that were due from it until its round's end. */
enum course_metric {
	COURSE_RATE, /* requests answered at the first attempt, per second */
	COURSE_P50,  /* latency, ms, as the others */
	COURSE_P99,
	COURSE_LONGEST,
	COURSE_SILENCE, /* the longest time without any answer */
	COURSE_READY,   /* from the request to restart until the next generation alone serves */
	COURSE_START,   /* WAY_STOP: from its start to its first answer */
	COURSE_CPRCTL,  /* WAY_CPR: as cprctl prints it */
	COURSE_DRAIN,   /* of that, until all connections were at a boundary; exec mode */
	COURSE_GATE,    /* how long neither generation accepted; handover mode */
	COURSE_METRICS,
};

/* Times are ns of the course's own clock, which stops between its rounds. */
struct course {
	struct service service;
	bool runs; /* false: it did not run, or not to its end */
	struct load_record *records;
	size_t count;
	int64_t length; /* of all rounds together */
	size_t restarts;
	int64_t at[COURSE_RESTARTS], until[COURSE_RESTARTS]; /* when each was requested, and the round's end */
	double values[COURSE_METRICS][COURSE_RESTARTS];
	size_t requests, outcomes[LOAD_OUTCOMES]; /* from each restart on */
	double p999;                              /* latency of all of these together, ms */
};

/*
 * Starts the server. Returns 0; or a negative errno, with the reason on stderr. course_free has to follow in either
 * case.
 */
int course_begin(struct course *course, const struct bench *bench, const struct server *server, const struct way *way);

/*
 * Load, one restart, and load for a while; then the clients leave. Returns 0; or a negative errno, with the reason on
 * stderr.
 */
int course_round(struct course *course);

/* Ends the server, and computes the figures of the records. */
int course_end(struct course *course);
void course_free(struct course *course);

/* Returns the number of rounds to run. */
size_t course_rounds(const struct bench *bench);

/* Requests that failed at their first attempt. */
size_t course_failed(const struct course *course);

#endif
