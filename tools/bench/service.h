/* SPDX-License-Identifier: MIT */
/* A server as a process: starting it, restarting it in each of its ways, ending it. */
#ifndef CPR_BENCH_SERVICE_H
#define CPR_BENCH_SERVICE_H

#include "bench.h"
#include "machine.h"
#include "servers.h"

/* Around a benchmark with services: an interrupt ends it in order, and takes effect at service_end. */
void service_begin(void);
void service_end(void);

/* 0, or -EINTR at once when there was an interrupt. */
int service_sleep_until(int64_t until);

/* What one restart took, ns; negative: not known in this way. */
struct service_times {
	int64_t ready;  /* from the request until the next generation serves, and it alone */
	int64_t start;  /* WAY_STOP: of it, from the new process's start to its first answer */
	int64_t cprctl; /* WAY_CPR: how long cprctl says that it took, */
	int64_t drain;  /* of that, until all connections stood between two requests; in exec mode only */
	int64_t gate;   /* how long neither generation accepted; in handover mode only */
};

/*
 * Makes its room and its files; with a way that is not cpr's there is no preload. 0, or a negative errno after saying
 * why; service_close is called in either case, and ends and removes all that there is.
 */
int service_open(struct service *service, const struct bench *bench, const struct server *server,
		 const struct way *way);
void service_close(struct service *service);

/* Returns when it has answered; *took: ns from its start. 0, or a negative errno after saying why. */
int service_start(struct service *service, int64_t *took);
int service_restart(struct service *service, struct service_times *times);

/* The processor time that its processes have taken so far. */
int64_t service_cpu_ns(const struct service *service);

#endif
