/* SPDX-License-Identifier: MIT */
/* What a supervisor counts over its life, and what that is called in its answers. */
#ifndef CPR_FIGURES_H
#define CPR_FIGURES_H

#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>

enum { FIGURES_BUCKETS = 10 };

/* How often something took at most so long; the last count is of all that took longer. */
struct histogram {
	uint64_t counts[FIGURES_BUCKETS + 1];
	uint64_t sum_us;
};

struct figures {
	uint64_t restarts;  /* that succeeded */
	uint64_t failures;  /* restarts that were called off */
	uint64_t rollbacks; /* the old generation serves again */
	uint64_t crashes;   /* the server ended by itself */
	uint64_t carried;   /* connections, from one generation to the next */
	uint64_t cut;       /* connections that ended with a generation at its end */
	struct histogram took, gate;
};

/* The upper ends of the buckets, in microseconds. */
extern const uint64_t figures_took_us[FIGURES_BUCKETS];
extern const uint64_t figures_gate_us[FIGURES_BUCKETS];

/* A restart has succeeded: how long it took, and how long no generation accepted. */
void figures_restarted(struct figures *f, int64_t took_us, int64_t gate_us);

/* Adds them as lines of an answer; reads them from one. Returns false if the answer has none. */
void figures_put(const struct figures *f, struct text *t);
bool figures_get(const char *answer, struct figures *f);

#endif
