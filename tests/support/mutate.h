/* SPDX-License-Identifier: MIT */
/* Mutations of a state's bytes: what a broken disk, a wrong program or a malicious one could make of them. */
#ifndef CPR_TEST_MUTATE_H
#define CPR_TEST_MUTATE_H

#include "state_bytes.h"

#include <stdbool.h>

enum { MUTANT_MAX = 1 << 16 };

struct random {
	uint64_t state;
};

/* splitmix64: the same numbers everywhere, from any seed. */
static inline uint64_t random_next(struct random *r)
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* 0 to n - 1; 0 for n = 0. */
static inline size_t random_below(struct random *r, size_t n)
{
	return n ? random_next(r) % n : 0;
}

static inline bool random_one_in(struct random *r, size_t n)
{
	return random_below(r, n) == 0;
}

static inline uint64_t random_number(struct random *r)
{
	static const uint64_t edges[] = {0,
					 1,
					 2,
					 7,
					 8,
					 9,
					 31,
					 32,
					 48,
					 87,
					 88,
					 89,
					 127,
					 128,
					 255,
					 256,
					 4095,
					 4096,
					 0x7fff,
					 0xffff,
					 0x10000,
					 1 << 24,
					 (1 << 24) - 1,
					 0x7ffffffe,
					 0x7fffffff,
					 0x80000000u,
					 0xfffffff8u,
					 0xffffffffu,
					 1ull << 32,
					 1ull << 63,
					 INT64_MAX,
					 UINT64_MAX};

	return random_one_in(r, 4) ? random_next(r) : edges[random_below(r, sizeof(edges) / sizeof(edges[0]))];
}

/* Where some record begins; the header's end if there is none. */
static inline size_t random_record(struct random *r, struct bytes b)
{
	size_t starts[256], n = 0;

	if (b.n < HEADER_SIZE)
		return 0;
	for (size_t at = get32(b.at + AT_HEADER_SIZE); n < 256 && at < b.n && b.n - at >= RECORD_HEAD;) {
		uint32_t length = get32(b.at + at + AT_LENGTH);

		starts[n++] = at;
		if (length < RECORD_HEAD || length > b.n - at)
			break;
		at += length;
	}
	return n ? starts[random_below(r, n)] : HEADER_SIZE;
}

static inline void set_number(struct random *r, struct bytes b, size_t at)
{
	uint64_t value = random_number(r);
	size_t width = (size_t)2 << random_below(r, 3);

	if (at + width <= b.n)
		memcpy(b.at + at, &value, width);
}

/* A length or a count, some steps up or down. */
static inline void nudge(struct random *r, struct bytes b, size_t at)
{
	static const int steps[] = {1, -1, 8, -8, 16, -16, 32, 1000, -1000};

	if (at + 4 <= b.n)
		put32(b.at + at, get32(b.at + at) + (uint32_t)steps[random_below(r, 9)]);
}

/* A piece of `other` over this one's bytes, or between them. */
static inline void graft(struct random *r, struct bytes *b, struct bytes other)
{
	bool whole_record = random_one_in(r, 2);
	size_t from = whole_record ? random_record(r, other) : random_below(r, other.n);
	size_t to = whole_record ? random_record(r, *b) : random_below(r, b->n);
	size_t n = 1 + random_below(r, other.n > from ? other.n - from : 0);

	if (whole_record && other.n >= from + RECORD_HEAD)
		n = get32(other.at + from + AT_LENGTH);
	if (from > other.n || n > other.n - from || b->n + n > MUTANT_MAX)
		return;
	if (random_one_in(r, 2) && to + n <= b->n) {
		memcpy(b->at + to, other.at + from, n);
		return;
	}
	bytes_stretch(b, to, (long)n);
	memcpy(b->at + to, other.at + from, n);
}

static inline void cut_out(struct random *r, struct bytes *b)
{
	size_t at = random_one_in(r, 2) ? random_record(r, *b) : random_below(r, b->n),
	       n = random_below(r, b->n - at + 1);

	if (random_one_in(r, 2) && b->n - at >= RECORD_HEAD && get32(b->at + at + AT_LENGTH) <= b->n - at)
		n = get32(b->at + at + AT_LENGTH);
	bytes_stretch(b, at, -(long)n);
}

/* A record of some type and of a length that may not be its own, between others or at the end. */
static inline void put_record(struct random *r, struct bytes *b)
{
	size_t length = RECORD_HEAD + 8 * random_below(r, 12), at = random_one_in(r, 2) ? b->n : random_record(r, *b);

	if (at > b->n || b->n + length > MUTANT_MAX)
		return;
	bytes_stretch(b, at, (long)length);
	put16(b->at + at + AT_TYPE, (uint16_t)random_below(r, TYPE_CONNECTION + 2));
	put16(b->at + at + AT_FLAGS, (uint16_t)random_below(r, 2));
	put32(b->at + at + AT_LENGTH, (uint32_t)length);
}

static inline void mutate_once(struct random *r, struct bytes *b, struct bytes other)
{
	size_t at = random_below(r, b->n), record = random_record(r, *b);

	if (!b->n)
		return;
	switch (random_below(r, 12)) {
	case 0:
		b->at[at] ^= (char)(1 << random_below(r, 8));
		break;
	case 1:
		b->at[at] = (char)random_number(r);
		break;
	case 2: /* a run of one byte */
		memset(b->at + at, (int)random_number(r), 1 + random_below(r, b->n - at < 64 ? b->n - at : 64));
		break;
	case 3:
		b->n = random_one_in(r, 2) ? at : at & ~(size_t)7;
		break;
	case 4:
		graft(r, b, other);
		break;
	case 5:
		cut_out(r, b);
		break;
	case 6: /* a field of a record */
		set_number(r, *b, record + 2 * random_below(r, AT_NAME / 2));
		break;
	case 7: /* a field of the header */
		set_number(r, *b, AT_VERSION + 4 * random_below(r, (HEADER_SIZE - AT_VERSION) / 4));
		break;
	case 8:
		nudge(r, *b, record + (random_one_in(r, 2) ? AT_LENGTH : AT_NAME_LENGTH));
		break;
	case 9: /* a record of another type */
		if (record + RECORD_HEAD <= b->n)
			put16(b->at + record + AT_TYPE, (uint16_t)random_below(r, TYPE_CONNECTION + 2));
		break;
	case 10:
		put_record(r, b);
		break;
	default:
		nudge(r, *b, AT_DESCRIPTORS + 4 * random_below(r, 4));
	}
}

/* Counts that agree with the records, so that what was spliced in or cut out is not refused for them alone. */
static inline void recount(struct bytes b)
{
	static const size_t where[] = {[TYPE_DESCRIPTOR] = AT_DESCRIPTORS,
				       [TYPE_HEIRLOOM] = AT_HEIRLOOMS,
				       [TYPE_WORKER] = AT_WORKERS,
				       [TYPE_CONNECTION] = AT_CONNECTIONS};
	uint32_t counts[TYPE_CONNECTION + 1] = {0};

	if (b.n < HEADER_SIZE)
		return;
	for (size_t at = get32(b.at + AT_HEADER_SIZE); at < b.n && b.n - at >= RECORD_HEAD;) {
		uint32_t length = get32(b.at + at + AT_LENGTH);
		unsigned type = get16(b.at + at + AT_TYPE);

		if (type <= TYPE_CONNECTION)
			counts[type]++;
		if (length < RECORD_HEAD || length > b.n - at)
			break;
		at += length;
	}
	for (unsigned type = 0; type <= TYPE_CONNECTION; type++)
		if (where[type])
			put32(b.at + where[type], counts[type]);
}

/* One to four mutations of a copy of `b`; mostly with counts, total and checksum made right. The caller frees it. */
static inline struct bytes mutant_of(struct random *r, struct bytes b, struct bytes other)
{
	struct bytes made = bytes_copy(b), exact;

	for (size_t n = 1 + random_below(r, 4); n; n--)
		mutate_once(r, &made, other);
	if (!random_one_in(r, 3))
		recount(made);
	if (!random_one_in(r, 8))
		bytes_finish(made);
	else if (!random_one_in(r, 4))
		bytes_rehash(made);
	exact = bytes_copy(made); /* no room behind it: a sanitizer sees what is read there */
	free(made.at);
	return exact;
}

#endif
