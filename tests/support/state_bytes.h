/* SPDX-License-Identifier: MIT */
/*
 * The state's bytes as they stand in the memfd, for tests that change them: described a second time, so that a change
 * shows.
 */
#ifndef CPR_TEST_STATE_BYTES_H
#define CPR_TEST_STATE_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
	AT_MAGIC = 0,
	AT_VERSION = 8,
	AT_HEADER_SIZE = 12,
	AT_TOTAL = 16,
	AT_HASH = 24,
	AT_GENERATION = 32,
	AT_DESCRIPTORS = 36,
	AT_HEIRLOOMS = 40,
	AT_WORKERS = 44,
	AT_CONNECTIONS = 48,
	AT_CHILDREN = 52,
	HEADER_SIZE = 56,
	/* in a record */
	AT_TYPE = 0,
	AT_FLAGS = 2,
	AT_LENGTH = 4,
	RECORD_HEAD = 8,
	/* in a descriptor's record */
	AT_FD = 8,
	AT_ID = 12,
	AT_KIND = 16,
	AT_ENTRY_FLAGS = 20,
	AT_NAME_LENGTH = 52,
	AT_NAME = 88,
	/* in an heirloom's, a worker's, a connection's or a child's */
	AT_NUMBER = 8,
	AT_OTHER = 12,
	AT_FIRST = 16,
	AT_SECOND = 24,
	PAIR_SIZE = 32,
	TYPE_DESCRIPTOR = 1,
	TYPE_HEIRLOOM = 2,
	TYPE_WORKER = 3,
	TYPE_RESTART = 4,
	TYPE_CONNECTION = 5,
	TYPE_GIVEN = 6,
	TYPE_PAGE = 7,
	TYPE_CHILD = 8,
};

struct bytes {
	char *at;
	size_t n;
};

static inline uint16_t get16(const void *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static inline uint32_t get32(const void *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static inline uint64_t get64(const void *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static inline void put16(void *at, uint16_t value)
{
	memcpy(at, &value, sizeof(value));
}

static inline void put32(void *at, uint32_t value)
{
	memcpy(at, &value, sizeof(value));
}

static inline void put64(void *at, uint64_t value)
{
	memcpy(at, &value, sizeof(value));
}

/* Makes the checksum right again; a header that is not whole has none. */
static inline void bytes_rehash(struct bytes b)
{
	if (b.n < HEADER_SIZE)
		return;
	put64(b.at + AT_HASH, 0);
	put64(b.at + AT_HASH, XXH64(b.at, b.n, 0));
}

/* Total and checksum made right. */
static inline void bytes_finish(struct bytes b)
{
	if (b.n >= HEADER_SIZE)
		put64(b.at + AT_TOTAL, b.n);
	bytes_rehash(b);
}

static inline struct bytes bytes_copy(struct bytes from)
{
	struct bytes b = {malloc(from.n + !from.n), from.n};

	memcpy(b.at, from.at, from.n);
	return b;
}

/* A hole of `n` zeroes at `at`, or, negative, so many bytes fewer. */
static inline void bytes_stretch(struct bytes *b, size_t at, long n)
{
	char *fresh = calloc(1, b->n + (size_t)(n > 0 ? n : 0) + 1);
	size_t skip = n < 0 ? (size_t)-n : 0;

	memcpy(fresh, b->at, at);
	memcpy(fresh + at + (n > 0 ? n : 0), b->at + at + skip, b->n - at - skip);
	free(b->at);
	b->at = fresh;
	b->n = (size_t)((long)b->n + n);
}

/* The file's bytes; the descriptor is closed. */
static inline struct bytes bytes_of_fd(int fd)
{
	struct stat st;
	struct bytes b;

	if (fd < 0 || fstat(fd, &st))
		abort();
	b = (struct bytes){malloc((size_t)st.st_size + 1), (size_t)st.st_size};
	if (pread(fd, b.at, b.n, 0) != st.st_size)
		abort();
	close(fd);
	return b;
}

/* The first record of a type from `from` on (0: the first of all); 0: none. */
static inline size_t bytes_record(struct bytes b, unsigned type, size_t from)
{
	for (size_t at = from ? from : get32(b.at + AT_HEADER_SIZE); at + RECORD_HEAD <= b.n;
	     at += get32(b.at + at + AT_LENGTH)) {
		if (get16(b.at + at + AT_TYPE) == type)
			return at;
		if (get32(b.at + at + AT_LENGTH) < RECORD_HEAD)
			break;
	}
	return 0;
}

static inline size_t bytes_record_after(struct bytes b, unsigned type, size_t at)
{
	uint32_t length = get32(b.at + at + AT_LENGTH);

	at += length;
	return length >= RECORD_HEAD && at < b.n ? bytes_record(b, type, at) : 0;
}

#endif
