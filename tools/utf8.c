/* SPDX-License-Identifier: MIT */
/* Strings of unknown origin made fit to show. */
#define _GNU_SOURCE
#include "utf8.h"

/*
 * The second byte is bounded more narrowly after some leading ones: no overlong forms, no surrogates, nothing past
 * U+10FFFF.
 */
static bool second_fits(unsigned char lead, unsigned char second)
{
	switch (lead) {
	case 0xe0:
		return second >= 0xa0;
	case 0xed:
		return second < 0xa0;
	case 0xf0:
		return second >= 0x90;
	case 0xf4:
		return second < 0x90;
	default:
		return true;
	}
}

size_t utf8_length(const char *s)
{
	unsigned char lead = (unsigned char)*s;
	size_t n;

	if (lead < 0x80)
		return lead ? 1 : 0;
	if (lead < 0xc2 || lead > 0xf4)
		return 0;
	n = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
	for (size_t i = 1; i < n; i++)
		if (((unsigned char)s[i] & 0xc0) != 0x80) /* the NUL stops it too */
			return 0;
	return second_fits(lead, (unsigned char)s[1]) ? n : 0;
}

size_t utf8_width(const char *s)
{
	size_t width = 0;

	for (; *s; s++)
		width += ((unsigned char)*s & 0xc0) != 0x80;
	return width;
}

static bool is_control(const char *s, size_t n)
{
	unsigned char c = (unsigned char)*s;

	return n == 0 || c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)s[1] < 0xa0);
}

void utf8_add_printable(struct text *t, const char *s)
{
	static const char digits[] = "0123456789abcdef";

	while (*s) {
		size_t n = utf8_length(s);

		if (is_control(s, n)) {
			unsigned char c = (unsigned char)*s++;
			char escape[] = {'\\', 'x', digits[c >> 4], digits[c & 15]};

			text_add_bytes(t, escape, sizeof(escape));
			/* of a two-byte control character the second byte is ill-formed by itself, and follows */
		} else {
			text_add_bytes(t, s, n);
			s += n;
		}
	}
}
