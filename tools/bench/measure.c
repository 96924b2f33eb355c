/* SPDX-License-Identifier: MIT */
/* Measuring: the clock, quartiles, pairs by turns, and numbers that are the same in every run. */
#define _GNU_SOURCE
#include "bench.h"

#include "own.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

int64_t bench_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Of sorted values: between two of them, in proportion. */
static double quantile(const double *values, size_t count, double part)
{
	double at = part * (double)(count - 1);
	size_t low = (size_t)at;

	if (low + 1 >= count)
		return values[count - 1];
	return values[low] + (at - (double)low) * (values[low + 1] - values[low]);
}

struct figure figure_of(double *values, size_t count)
{
	if (!count)
		return (struct figure){0};
	qsort(values, count, sizeof(*values), compare);
	return (struct figure){
		.median = quantile(values, count, 0.5),
		.low = quantile(values, count, 0.25),
		.high = quantile(values, count, 0.75),
		.rounds = count,
	};
}

int bench_pair(bench_way way_a, void *arg_a, bench_way way_b, void *arg_b, size_t rounds, size_t count,
	       struct figure *a, struct figure *b, struct figure *ratio)
{
	cleanup_free double *values = calloc(3 * rounds, sizeof(*values));
	double *ratios = values + 2 * rounds;

	if (!values && rounds)
		return -ENOMEM;
	if (!rounds || !count)
		return -EINVAL;
	for (size_t i = 0; i <= rounds; i++) { /* the first warms up */
		double ns[2];

		for (size_t turn = 0; turn < 2; turn++) {
			size_t which = (i + turn) % 2;

			ns[which] = which ? way_b(arg_b, count) : way_a(arg_a, count);
			if (ns[which] < 0)
				return (int)ns[which];
		}
		if (!i)
			continue;
		values[i - 1] = ns[0] / (double)count;
		values[rounds + i - 1] = ns[1] / (double)count;
		ratios[i - 1] = ns[0] > 0 ? ns[1] / ns[0] : 0;
	}
	*a = figure_of(values, rounds);
	*b = figure_of(values + rounds, rounds);
	*ratio = figure_of(ratios, rounds);
	return 0;
}

static uint64_t rotate(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

/* splitmix64, as xoshiro's authors advise for seeding. */
void bench_seed(struct bench_random *r, uint64_t seed)
{
	for (int i = 0; i < 4; i++) {
		uint64_t z = seed += 0x9e3779b97f4a7c15;

		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
		z = (z ^ z >> 27) * 0x94d049bb133111eb;
		r->state[i] = z ^ z >> 31;
	}
}

uint64_t bench_random(struct bench_random *r)
{
	uint64_t *s = r->state, result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate(s[3], 45);
	return result;
}

void bench_shuffle(struct bench_random *r, uint32_t *values, size_t count)
{
	for (size_t i = count; i > 1; i--) {
		size_t j = bench_random(r) % i;
		uint32_t kept = values[i - 1];

		values[i - 1] = values[j];
		values[j] = kept;
	}
}
