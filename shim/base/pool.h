/* SPDX-License-Identifier: MIT */
/* Memory of our own: a signal handler may have interrupted malloc, so nothing of ours comes from there. */
#ifndef CPR_BASE_POOL_H
#define CPR_BASE_POOL_H

#include <stddef.h>

/*
 * size bytes, zeroed, beginning with a cache line (64 bytes); NULL when the kernel gives no more. Freed with the same size.
 * Not locked: the caller holds the guard, with all signals blocked. Keeps errno.
 *
 * What was freed is given out again for the same size, or lies idle (of large blocks the pages go back to the kernel); it never stops being mapped, since
 * somebody who reads the table without the lock (table_peek) may still look at it.
 */
void *pool_alloc(size_t size);
void pool_free(void *memory, size_t size);

/* About this many bytes will be asked for in small blocks: their pages all at once, and not by a fault for each. */
void pool_reserve(size_t size);
/*
 * The first of all that is mapped, at the start: what pool_alloc and pool_page give out comes from here until it is used up. One mapping, and most often not even that: the kernel
 * joins it to libc's memory for the first thread, which was mapped last. Every fork copies each mapping.
 */
void pool_begin(void);

/* Whole pages, zeroed, that stay mapped; NULL when there are none. Takes no lock: any thread and any signal handler may call it, and give back with pool_unpage what it does not need. */
void *pool_page(size_t size);
void pool_unpage(void *memory, size_t size);

/* Whole pages straight from the kernel, for what a signal handler will need later. NULL when there are none. */
void *pool_map(size_t size);
void pool_unmap(void *memory, size_t size);

#endif
