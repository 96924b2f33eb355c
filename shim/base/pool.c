/* SPDX-License-Identifier: MIT */
/*
 * A pool with a free list for each size. Small sizes go in steps of a cache line, larger ones in powers of two. What it
 * has mapped stays mapped.
 */
#define _GNU_SOURCE
#include "base/pool.h"

#include "base/guarded.h"
#include "base/attr.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#ifdef CPR_DEBUG
void (*guarded_check)(const char *function);
#endif

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum {
	LINE_SHIFT = 6,       /* 64 bytes: blocks begin with a cache line */
	FINE = 16,            /* sizes up to 1 KiB, in steps of a line */
	FINE_SHIFT = LINE_SHIFT + 4,
	LARGEST_SHIFT = 14,   /* 16 KiB; above that, blocks are mapped singly */
	SHIFTS = 48,
	CHUNK = 1024 * 1024,  /* the least that is mapped at a time */
	CHUNK_MOST = 64 * CHUNK,
	HUGE = 2 * CHUNK,     /* pages, where there are such */
	FIRST_CHUNK = CHUNK / 4, /* from the reserve */
	PAGE = 4096,
	RESERVE = 3 * CHUNK / 2, /* less than a huge page, which would be filled at its first touch */
};

struct block {
	struct block *next;
};

static struct block *free_lists[FINE + SHIFTS];
static char *chunk;
static size_t chunk_left;
static size_t chunks; /* bytes of all of them */

static char *reserve;
static _Atomic size_t reserve_left;

void pool_begin(void)
{
	reserve = pool_map(RESERVE);
	if (reserve)
		atomic_store(&reserve_left, RESERVE);
}

static size_t whole_pages(size_t size)
{
	return (size + PAGE - 1) & ~(size_t)(PAGE - 1);
}

/* Takes from the top downwards. A rest at the bottom that is too small stays unused. */
static void *take_reserve(size_t size)
{
	size_t left = atomic_load_explicit(&reserve_left, memory_order_acquire);

	do
		if (left < size)
			return NULL;
	while (!atomic_compare_exchange_weak(&reserve_left, &left, left - size));
	return reserve + left - size;
}

void *pool_page(size_t size)
{
	void *memory = take_reserve(whole_pages(size));

	return memory ? memory : pool_map(size);
}

/* Pages of the reserve are not reused. */
void pool_unpage(void *memory, size_t size)
{
	if ((char *)memory < reserve || (char *)memory >= reserve + RESERVE)
		pool_unmap(memory, size);
}

void *pool_map(size_t size)
{
	int saved_errno = errno;
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	errno = saved_errno;
	return memory == MAP_FAILED ? NULL : memory;
}

void pool_unmap(void *memory, size_t size)
{
	int saved_errno = errno;

	if (memory)
		munmap(memory, size);
	errno = saved_errno;
}

/*
 * Returns the index of the free list, and sets *rounded to the size of its blocks. -1: no list has blocks that large.
 */
static int list_for(size_t size, size_t *rounded)
{
	size_t lines = (size + (1 << LINE_SHIFT) - 1) >> LINE_SHIFT;
	int shift = FINE_SHIFT;

	if (lines <= FINE) {
		lines = lines ? lines : 1;
		*rounded = lines << LINE_SHIFT;
		return (int)lines - 1;
	}
	while (shift < SHIFTS && ((size_t)1 << shift) < size)
		shift++;
	*rounded = (size_t)1 << shift;
	return shift < SHIFTS ? FINE + shift : -1;
}

/*
 * Maps large blocks in huge pages. Lookups among a hundred thousand entries touch another page with each address. With
 * small pages they wait longer for the processor's page table than for the entry.
 */
static void *map_large(size_t size)
{
	size_t off;
	char *memory;
	int saved_errno;

	if (size % HUGE)
		return pool_map(size);
	memory = pool_map(size + HUGE);
	if (!memory)
		return pool_map(size);
	off = -(uintptr_t)memory % HUGE;
	pool_unmap(off ? memory : NULL, off);
	pool_unmap(memory + off + size, HUGE - off);
	saved_errno = errno;
	madvise(memory + off, size, MADV_HUGEPAGE);
	errno = saved_errno;
	return memory + off;
}

/* Each chunk is larger than the one before, as long as the kernel gives that much. */
static bool next_chunk(void)
{
	size_t size = chunks / 2 / HUGE * HUGE;
	char *fresh;

	size = size < CHUNK ? CHUNK : size > CHUNK_MOST ? CHUNK_MOST : size;
	fresh = chunks ? NULL : take_reserve(size = FIRST_CHUNK);
	fresh = fresh ? fresh : map_large(size = chunks ? size : CHUNK);
	if (!fresh && size > CHUNK)
		fresh = pool_map(size = CHUNK);
	if (!fresh)
		return false;
	chunk = fresh; /* what is left of the old one is less than one block: let it go */
	chunk_left = size;
	chunks += size;
	return true;
}

void pool_reserve(size_t size)
{
	int saved_errno = errno;
	char *fresh;

	size = (size + PAGE - 1) / PAGE * PAGE;
	if (size > HUGE / 2)
		size = (size + HUGE - 1) / HUGE * HUGE;
	if (size <= chunk_left || !(fresh = map_large(size)))
		return;
	madvise(fresh, size, MADV_POPULATE_WRITE); /* before Linux 5.14 they come one by one */
	errno = saved_errno;
	chunk = fresh; /* what is left of the old one is let go: this is called before there is much */
	chunk_left = size;
	chunks += size;
}

void *pool_alloc(size_t size)
{
	assert_guarded();
	size_t rounded;
	int list = list_for(size, &rounded);
	struct block *block;

	if (unlikely(list < 0))
		return NULL;
	block = free_lists[list];
	if (block) {
		free_lists[list] = block->next;
		if (rounded > 1 << LARGEST_SHIFT)
			block->next = NULL; /* the rest is zero: see pool_free */
		else
			memset(block, 0, rounded);
		return block;
	}
	if (rounded > 1 << LARGEST_SHIFT)
		return (block = take_reserve(rounded)) ? block : map_large(rounded);
	if (chunk_left < rounded && !next_chunk())
		return NULL;
	block = (struct block *)chunk;
	chunk += rounded;
	chunk_left -= rounded;
	return block;
}

void *pool_longer(const void *array, size_t count, size_t *places, size_t wanted, size_t size)
{
	size_t n = wanted > 2 * *places ? wanted : 2 * *places;
	void *more = pool_alloc(n * size);

	if (!more)
		return NULL;
	if (count)
		memcpy(more, array, count * size);
	*places = n;
	return more;
}

void pool_free(void *memory, size_t size)
{
	assert_guarded();
	size_t rounded;
	int list = list_for(size, &rounded), saved_errno = errno;
	struct block *block = memory;

	if (!memory || list < 0)
		return;
	if (rounded > 1 << LARGEST_SHIFT &&
	    madvise(memory, rounded, MADV_DONTNEED)) /* gives the pages back; not if they are locked */
		memset(memory, 0, rounded);
	errno = saved_errno;
	block->next = free_lists[list];
	free_lists[list] = block;
}
