/* SPDX-License-Identifier: MIT */
/* Memory of our own: a signal handler may have interrupted malloc, so nothing of ours comes from there. */
#ifndef CPR_BASE_POOL_H
#define CPR_BASE_POOL_H

#include <stddef.h>

/*
 * size bytes, zeroed, beginning with a cache line (64 bytes); NULL when the kernel gives no more. Freed with the
 * same size. Not locked: the caller holds the guard, with all signals blocked. Keeps errno.
 *
 * A freed block is given out again for the same size, or lies idle; the pages of large ones go back to the kernel.
 * It stays mapped for ever: a thread that reads the table without the lock (table_peek) may still look at it.
 */
void *pool_alloc(size_t size);
void pool_free(void *memory, size_t size);

/*
 * A longer array with the same beginning: the first `count` of elements of so many bytes, and room for `wanted`, or for
 * twice as many as before; *places is how many. NULL: no memory, and nothing is changed. The earlier array stays: a
 * thread may be looking at it. Otherwise as pool_alloc.
 */
void *pool_longer(const void *array, size_t count, size_t *places, size_t wanted, size_t size);

/* About this many bytes will be asked for in small blocks: their pages all at once, and not by a fault for each. */
void pool_reserve(size_t size);
/*
 * Maps the reserve, at the start: pool_alloc and pool_page give it out first. It is one mapping, and most often
 * none of its own: the kernel joins it to libc's memory for the first thread, which was mapped last. Every fork
 * copies each mapping.
 */
void pool_begin(void);

/*
 * Whole pages, zeroed, that stay mapped; NULL when there are none. Takes no lock: any thread and any signal handler
 * may call it, and may give pages back with pool_unpage.
 */
void *pool_page(size_t size);
void pool_unpage(void *memory, size_t size);

/* Whole pages straight from the kernel, for what a signal handler will need later. NULL when there are none. */
void *pool_map(size_t size);
void pool_unmap(void *memory, size_t size);

#endif
