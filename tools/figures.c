/* SPDX-License-Identifier: MIT */
/* A supervisor's counters and histograms. */
#define _GNU_SOURCE
#include "figures.h"

#include "base/attr.h"
#include "model/protocol.h"

#include <stdlib.h>
#include <string.h>

const uint64_t figures_took_us[FIGURES_BUCKETS] = {50000,   100000,  250000,   500000,   1000000,
						   2500000, 5000000, 10000000, 30000000, 60000000};
const uint64_t figures_gate_us[FIGURES_BUCKETS] = {500,   1000,  2500,   5000,   10000,
						   25000, 50000, 100000, 250000, 1000000};

static const struct {
	const char *key;
	size_t at;
} counters[] = {
	{"total_restarts", offsetof(struct figures, restarts)},
	{"total_failures", offsetof(struct figures, failures)},
	{"total_rollbacks", offsetof(struct figures, rollbacks)},
	{"total_crashes", offsetof(struct figures, crashes)},
	{"total_carried", offsetof(struct figures, carried)},
	{"total_cut", offsetof(struct figures, cut)},
};

static void count(struct histogram *h, const uint64_t *ends, int64_t us)
{
	size_t i = 0;

	while (i < FIGURES_BUCKETS && us > (int64_t)ends[i])
		i++;
	h->counts[i]++;
	h->sum_us += us > 0 ? (uint64_t)us : 0;
}

void figures_restarted(struct figures *f, int64_t took_us, int64_t gate_us)
{
	f->restarts++;
	count(&f->took, figures_took_us, took_us);
	count(&f->gate, figures_gate_us, gate_us);
}

/* "SUM COUNT COUNT …" */
static void put_histogram(struct text *t, const char *key, const struct histogram *h)
{
	text_format(t, "%s=%llu", key, (unsigned long long)h->sum_us);
	for (size_t i = 0; i <= FIGURES_BUCKETS; i++)
		text_format(t, " %llu", (unsigned long long)h->counts[i]);
	text_add(t, "\n");
}

void figures_put(const struct figures *f, struct text *t)
{
	for (size_t i = 0; i < countof(counters); i++) {
		uint64_t n;

		memcpy(&n, (const char *)f + counters[i].at, sizeof(n));
		protocol_put_int(t, counters[i].key, (int64_t)n);
	}
	put_histogram(t, "took_us", &f->took);
	put_histogram(t, "gate_us", &f->gate);
}

static bool get_histogram(const char *answer, const char *key, struct histogram *h)
{
	char value[512], *at = value, *end;

	if (protocol_get(answer, key, value, sizeof(value)))
		return false;
	h->sum_us = strtoull(at, &end, 10);
	for (size_t i = 0; i <= FIGURES_BUCKETS && end != at; i++) {
		at = end;
		h->counts[i] = strtoull(at, &end, 10);
	}
	return end != at;
}

bool figures_get(const char *answer, struct figures *f)
{
	for (size_t i = 0; i < countof(counters); i++) {
		int64_t n;

		if (protocol_get_int(answer, counters[i].key, &n))
			return false;
		memcpy((char *)f + counters[i].at, &n, sizeof(n));
	}
	return get_histogram(answer, "took_us", &f->took) && get_histogram(answer, "gate_us", &f->gate);
}
