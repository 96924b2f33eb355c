/* SPDX-License-Identifier: MIT */
/* pool: blocks that are zeroed, aligned and apart, and come back. */
#include "base/pool.h"

#include "../support/files.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>

static const size_t sizes[] = {0,   1,    31,   32,   33,    63,    64,    100,    255,    256,
			       257, 1000, 4096, 4097, 16383, 16384, 16385, 100000, 3000000};
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

static bool all(const unsigned char *bytes, size_t n, unsigned char value)
{
	for (size_t i = 0; i < n; i++)
		if (bytes[i] != value)
			return false;
	return true;
}

Test(pool, gives_zeroed_and_aligned_memory_of_every_size)
{
	for (size_t i = 0; i < SIZES; i++) {
		unsigned char *block = pool_alloc(sizes[i]);

		cr_assert_not_null(block);
		cr_assert_eq((uintptr_t)block % 64, 0);
		cr_assert(all(block, sizes[i], 0), "%zu bytes", sizes[i]);
	}
}

Test(pool, gives_blocks_that_do_not_overlap)
{
	enum { ROUNDS = 20 };
	unsigned char *blocks[ROUNDS][SIZES];

	for (int round = 0; round < ROUNDS; round++)
		for (size_t i = 0; i < SIZES; i++) {
			blocks[round][i] = pool_alloc(sizes[i]);
			memset(blocks[round][i], (int)(round * SIZES + i) % 255 + 1, sizes[i]);
		}
	for (int round = 0; round < ROUNDS; round++)
		for (size_t i = 0; i < SIZES; i++)
			cr_assert(all(blocks[round][i], sizes[i], (unsigned char)((round * SIZES + i) % 255 + 1)),
				  "%zu bytes", sizes[i]);
}

Test(pool, zeroes_what_it_gives_a_second_time)
{
	for (size_t i = 0; i < SIZES; i++) {
		unsigned char *block = pool_alloc(sizes[i]);

		memset(block, 0xff, sizes[i]);
		pool_free(block, sizes[i]);
		block = pool_alloc(sizes[i]);
		cr_assert(all(block, sizes[i], 0), "%zu bytes", sizes[i]);
	}
}

Test(pool, takes_no_more_from_the_kernel_for_what_came_back)
{
	long before = 0;

	for (int round = 0; round < 2000; round++) {
		void *blocks[SIZES];

		for (size_t i = 0; i < SIZES; i++)
			blocks[i] = pool_alloc(sizes[i]);
		for (size_t i = 0; i < SIZES; i++)
			pool_free(blocks[i], sizes[i]);
		if (round == 10)
			before = mapped_kib();
	}
	cr_assert_eq(mapped_kib(), before);
}

/* A reader may still look at it. It judges by itself what it sees there. */
Test(pool, never_unmaps_what_it_gave)
{
	for (size_t i = 0; i < SIZES; i++) {
		volatile unsigned char *block = pool_alloc(sizes[i]);
		unsigned sum = 0;

		memset((void *)block, 1, sizes[i]);
		pool_free((void *)block, sizes[i]);
		for (size_t at = 0; at < sizes[i]; at += 64)
			sum += block[at];
		cr_assert_leq(sum, 255 * (sizes[i] / 64 + 1));
	}
}

Test(pool, gives_again_what_came_back_of_that_size)
{
	for (size_t i = 0; i < SIZES; i++) {
		void *block = pool_alloc(sizes[i]), *between = pool_alloc(sizes[i]);

		pool_free(block, sizes[i]);
		cr_assert_eq(pool_alloc(sizes[i]), block, "%zu bytes", sizes[i]);
		pool_free(between, sizes[i]);
	}
}

/* Of what lies idle the pages go back to the kernel. */
Test(pool, holds_no_pages_of_large_blocks_that_came_back)
{
	enum { LARGE = 32 << 20 };
	unsigned char *block = pool_alloc(LARGE), *resident = malloc(LARGE / 4096);
	size_t pages = 0;

	memset(block, 1, LARGE);
	pool_free(block, LARGE);
	cr_assert_eq(mincore(block, LARGE, resident), 0);
	for (size_t i = 0; i < LARGE / 4096; i++)
		pages += resident[i] & 1;
	cr_assert_leq(pages, 512); /* the one with the link in it, which may be a huge one */
	cr_assert_eq(pool_alloc(LARGE), block);
	cr_assert(all(block, LARGE, 0));
}

Test(pool, frees_nothing_without_harm)
{
	pool_free(NULL, 10);
	pool_free(NULL, 100000);
	pool_unmap(NULL, 100000);
}

Test(pool, maps_and_unmaps_pages)
{
	long before = mapped_kib();
	unsigned char *pages = pool_map(1 << 20);

	cr_assert_not_null(pages);
	cr_assert(all(pages, 1 << 20, 0));
	memset(pages, 1, 1 << 20);
	pool_unmap(pages, 1 << 20);
	cr_assert_eq(mapped_kib(), before);
}

Test(pool, says_null_and_keeps_errno_when_the_kernel_gives_no_more, NOT_UNDER_ASAN)
{
	struct rlimit none = {0, 0};
	int blocks = 0;

	cr_assert_eq(setrlimit(RLIMIT_AS, &none), 0);
	errno = EDOM;
	while (pool_alloc(1000) && blocks < 100000) /* the rest of a chunk may still serve a few */
		blocks++;
	cr_assert_lt(blocks, 2000);
	cr_assert_null(pool_alloc(1 << 20));
	cr_assert_null(pool_map(1 << 20));
	cr_assert_eq(errno, EDOM);
}
