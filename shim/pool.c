/* SPDX-License-Identifier: MIT */
/* A pool with a free list per power of two; large blocks are mapped and unmapped singly. */
#define _GNU_SOURCE
#include "pool.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

enum {
	SMALLEST_SHIFT = 5,   /* 32 bytes */
	LARGEST_SHIFT = 14,   /* 16 KiB; above that, pages */
	CHUNK = 1024 * 1024,  /* what is mapped at a time */
};

struct block {
	struct block *next;
};

static struct block *free_lists[LARGEST_SHIFT + 1];
static char *chunk;
static size_t chunk_left;

void *pool_map(size_t size)
{
	int kept = errno;
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	errno = kept;
	return memory == MAP_FAILED ? NULL : memory;
}

void pool_unmap(void *memory, size_t size)
{
	int kept = errno;

	if (memory)
		munmap(memory, size);
	errno = kept;
}

static unsigned shift_for(size_t size)
{
	unsigned shift = SMALLEST_SHIFT;

	while (((size_t)1 << shift) < size)
		shift++;
	return shift;
}

void *pool_alloc(size_t size)
{
	unsigned shift = shift_for(size);
	struct block *block;

	if (shift > LARGEST_SHIFT)
		return pool_map(size);
	block = free_lists[shift];
	if (block) {
		free_lists[shift] = block->next;
		memset(block, 0, (size_t)1 << shift);
		return block;
	}
	if (chunk_left < (size_t)1 << shift) { /* what is left of the old chunk is less than one block: let it go */
		char *fresh = pool_map(CHUNK);

		if (!fresh)
			return NULL;
		chunk = fresh;
		chunk_left = CHUNK;
	}
	block = (struct block *)chunk;
	chunk += (size_t)1 << shift;
	chunk_left -= (size_t)1 << shift;
	return block;
}

void pool_free(void *memory, size_t size)
{
	unsigned shift = shift_for(size);
	struct block *block = memory;

	if (!memory)
		return;
	if (shift > LARGEST_SHIFT) {
		pool_unmap(memory, size);
		return;
	}
	block->next = free_lists[shift];
	free_lists[shift] = block;
}
