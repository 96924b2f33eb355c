/* SPDX-License-Identifier: MIT */
/* Text into a fixed buffer, without locale, allocation or locks. */
#define _GNU_SOURCE
#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

struct text text_on(char *bytes, size_t size)
{
	bytes[0] = '\0';
	return (struct text){.bytes = bytes, .size = size};
}

void text_add_bytes(struct text *t, const void *bytes, size_t n)
{
	size_t room = t->size - 1 - t->used;

	if (n > room) {
		n = room;
		t->cut = true;
	}
	memcpy(t->bytes + t->used, bytes, n);
	t->used += n;
	t->bytes[t->used] = '\0';
}

void text_add(struct text *t, const char *string)
{
	text_add_bytes(t, string, strlen(string));
}

static void add_number(struct text *t, uint64_t value, unsigned base)
{
	char digits[24];
	size_t at = sizeof(digits);

	do {
		digits[--at] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	text_add_bytes(t, digits + at, sizeof(digits) - at);
}

void text_add_int(struct text *t, int64_t value)
{
	if (value < 0)
		text_add_bytes(t, "-", 1);
	add_number(t, value < 0 ? -(uint64_t)value : (uint64_t)value, 10);
}

void text_add_hex(struct text *t, uint64_t value)
{
	add_number(t, value, 16);
}

/* One conversion; `longs` counts its l's (z counts as two). */
static void add_conversion(struct text *t, char kind, int longs, va_list *args)
{
	const char *string;
	char c;

	switch (kind) {
	case 'd':
		text_add_int(t, longs == 0   ? va_arg(*args, int)
				: longs == 1 ? va_arg(*args, long)
					     : va_arg(*args, long long));
		break;
	case 'u':
	case 'x':
		add_number(t,
			   longs == 0   ? va_arg(*args, unsigned)
			   : longs == 1 ? va_arg(*args, unsigned long)
					: va_arg(*args, unsigned long long),
			   kind == 'u' ? 10 : 16);
		break;
	case 's':
		string = va_arg(*args, const char *);
		text_add(t, string ? string : "(null)");
		break;
	case 'c':
		c = (char)va_arg(*args, int);
		text_add_bytes(t, &c, 1);
		break;
	case 'm': /* glibc has it without a lock for every known errno */
		string = strerrordesc_np(errno);
		text_add(t, string ? string : "unknown error");
		break;
	default:
		text_add_bytes(t, &kind, 1);
	}
}

void text_vformat(struct text *t, const char *format, va_list given)
{
	va_list args;

	va_copy(args, given);
	while (*format) {
		size_t plain = strcspn(format, "%");
		int longs = 0;

		text_add_bytes(t, format, plain);
		format += plain;
		if (!*format)
			break;
		for (format++; *format == 'l' || *format == 'z'; format++)
			longs += *format == 'z' ? 2 : 1;
		if (*format)
			add_conversion(t, *format++, longs, &args);
	}
	va_end(args);
}

void text_format(struct text *t, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	text_vformat(t, format, args);
	va_end(args);
}
