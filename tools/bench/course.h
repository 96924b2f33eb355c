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
	COURSE_CPRCTL,  /* WAY_CPR: as cprctl says */
	COURSE_DRAIN,   /* of that, until all connections stood between two requests; exec mode */
	COURSE_GATE,    /* how long neither generation accepted; handover mode */
	COURSE_METRICS,
};

/* Times are ns of the course's own: the time between its rounds, in which nothing is asked, is left out. */
struct course {
	struct service service;
	bool runs; /* false: it could not be run, or not to its end */
	struct load_record *records;
	size_t count;
	int64_t length; /* of all rounds together */
	size_t restarts;
	int64_t at[COURSE_RESTARTS], until[COURSE_RESTARTS]; /* when each was requested, and the round's end */
	double values[COURSE_METRICS][COURSE_RESTARTS];
	size_t requests, outcomes[LOAD_OUTCOMES]; /* from each restart on */
	double p999;                              /* latency of all of these together, ms */
};

/* Starts the server. 0, or a negative errno after saying why. course_free afterwards in either case. */
int course_begin(struct course *course, const struct bench *bench, const struct server *server, const struct way *way);

/* Load, one restart, and load for a while; then the clients leave. 0, or a negative errno after saying why. */
int course_round(struct course *course);

/* Ends the server, and takes the figures of what was recorded. */
int course_end(struct course *course);
void course_free(struct course *course);

/* The rounds that there are to be. */
size_t course_rounds(const struct bench *bench);

/* Requests that failed at their first attempt. */
size_t course_failed(const struct course *course);

#endif
