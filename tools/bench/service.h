/* SPDX-License-Identifier: MIT */
/* A server as a process: starts it, restarts it in each of its ways, ends it. */
#ifndef CPR_BENCH_SERVICE_H
#define CPR_BENCH_SERVICE_H

#include "bench.h"
#include "machine.h"
#include "servers.h"

/* Call these around a benchmark with services: an interrupt then ends it in order, and takes effect at service_end. */
void service_begin(void);
void service_end(void);

/* Returns 0; or -EINTR at once after an interrupt. */
int service_sleep_until(int64_t until);

/* The times of one restart, ns; negative: not known in this way. */
struct service_times {
	int64_t ready;  /* from the request until only the next generation serves */
	int64_t start;  /* WAY_STOP: of it, from the new process's start to its first answer */
	int64_t cprctl; /* WAY_CPR: as cprctl prints it, */
	int64_t drain;  /* of that, until all connections were at a boundary; only in exec mode */
	int64_t gate;   /* how long neither generation accepted; in handover mode only */
};

/*
 * Makes its directory and files; only cpr's way has the preload. Returns 0; or a negative errno, with the reason on
 * stderr. service_close has to follow in either case: it ends and removes everything.
 */
int service_open(struct service *service, const struct bench *bench, const struct server *server,
		 const struct way *way);
void service_close(struct service *service);

/* Returns 0 when it has answered, and *took: ns from its start; or a negative errno, with the reason on stderr. */
int service_start(struct service *service, int64_t *took);
int service_restart(struct service *service, struct service_times *times);

/* Returns the processor time of its processes so far. */
int64_t service_cpu_ns(const struct service *service);

#endif
