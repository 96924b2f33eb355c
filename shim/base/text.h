/* SPDX-License-Identifier: MIT */
/* Text in a fixed buffer, for code that a signal handler may run: snprintf may call malloc. */
#ifndef CPR_BASE_TEXT_H
#define CPR_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `bytes` is always NUL-terminated. Text that does not fit is cut off, and `cut` is set. */
struct text {
	char *bytes;
	size_t size;
	size_t used;
	bool cut;
};

#define TEXT_ON(array) text_on((array), sizeof(array))

struct text text_on(char *bytes, size_t size);
void text_add(struct text *t, const char *string);
void text_add_bytes(struct text *t, const void *bytes, size_t n);
void text_add_int(struct text *t, int64_t value);
void text_add_hex(struct text *t, uint64_t value);

/*
 * Knows %s %d %u %ld %lu %lld %llu %zu %zd %x %llx %c %% and %m, and nothing else. %m is what errno means, in English.
 */
void text_format(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_vformat(struct text *t, const char *format, __builtin_va_list args) __attribute__((format(printf, 2, 0)));

#endif
