/* SPDX-License-Identifier: MIT */
/* Memory of our own: a signal handler may have interrupted malloc, so we do not use it. */
#ifndef CPR_BASE_POOL_H
#define CPR_BASE_POOL_H

#include <stddef.h>

/*
 * Allocates `size` zeroed bytes that begin with a cache line (64 bytes). Returns NULL if the kernel gives no more. Free
 * them with the same size. Not locked: the caller holds the guard, with all signals blocked. Keeps errno.
 *
 * A freed block stays mapped. It is reused for the same size; the pages of a large one go back to the kernel. A thread
 * that reads the table without the lock (table_peek) may still look at a freed block.
 */
void *pool_alloc(size_t size);
void pool_free(void *memory, size_t size);

/*
 * Makes a longer array that begins with the first `count` elements, each of `size` bytes. It has room for `wanted`
 * elements, or for twice as many as before; *places is set to that. Returns NULL and changes nothing if there is no
 * memory. The old array stays: a thread may be reading it. Otherwise as pool_alloc.
 */
void *pool_longer(const void *array, size_t count, size_t *places, size_t wanted, size_t size);

/* Announces about `size` bytes of small blocks: their pages come in one call, and not by a fault each. */
void pool_reserve(size_t size);
/*
 * Maps the reserve, at the start. pool_alloc and pool_page use it first. It costs no mapping of its own as a rule: the
 * kernel joins it to the memory that libc mapped last, for the first thread. Every fork copies each mapping.
 */
void pool_begin(void);

/*
 * Allocates whole zeroed pages, or NULL. Takes no lock: any thread and any signal handler may call it, and give the
 * pages back with pool_unpage.
 */
void *pool_page(size_t size);
void pool_unpage(void *memory, size_t size);

/* Maps whole pages, for what a signal handler will need later. NULL if the kernel gives none. Keep errno. */
void *pool_map(size_t size);
void pool_unmap(void *memory, size_t size);

#endif
