/* SPDX-License-Identifier: MIT */
/* Globs: one star is remembered, and taken longer when what follows it does not match. */
#include "base/glob.h"

#include <stddef.h>
#include <string.h>

static bool between(unsigned char c, unsigned char low, unsigned char high)
{
	return c >= low && c <= high;
}

static bool is_print(unsigned char c)
{
	return between(c, 0x21, 0x7e);
}

static bool is_alnum(unsigned char c)
{
	return between(c, '0', '9') || between(c | 0x20, 'a', 'z');
}

/* Is c of the class with this name, of n bytes? */
static bool in_class(unsigned char c, const char *name, size_t n)
{
	static const char *const names[] = {"alpha", "digit", "alnum", "upper", "lower", "space",
					    "blank", "punct", "print", "graph", "cntrl", "xdigit"};
	const bool is[] = {is_alnum(c) && !between(c, '0', '9'),
			   between(c, '0', '9'),
			   is_alnum(c),
			   between(c, 'A', 'Z'),
			   between(c, 'a', 'z'),
			   c == ' ' || between(c, '\t', '\r'),
			   c == ' ' || c == '\t',
			   is_print(c) && !is_alnum(c),
			   is_print(c) || c == ' ',
			   is_print(c),
			   c < ' ' || c == 0x7f,
			   between(c, '0', '9') || between(c | 0x20, 'a', 'f')};

	for (size_t i = 0; i < sizeof(is) / sizeof(is[0]); i++)
		if (strlen(names[i]) == n && !memcmp(names[i], name, n))
			return is[i];
	return false;
}

/* One byte within brackets, which may stand behind a backslash or between dots; `at` goes behind it. */
static unsigned char bracket_byte(const char **at)
{
	const char *p = *at;

	if (p[0] == '[' && (p[1] == '.' || p[1] == '=') && p[2] && p[3] == p[1] && p[4] == ']') {
		*at += 5;
		return (unsigned char)p[2];
	}
	if (p[0] == '\\' && p[1])
		p++;
	*at = p + 1;
	return (unsigned char)*p;
}

/* Does c match the brackets at `glob`, which goes behind them? NULL: they are not closed, and "[" stands for itself. */
static const char *match_brackets(const char *glob, unsigned char c, bool *matched)
{
	const char *at = glob + 1, *first;
	bool negated = *at == '!' || *at == '^';

	at += negated;
	*matched = false;
	for (first = at; *at && (*at != ']' || at == first);) {
		const char *end = at[0] == '[' && at[1] == ':' ? strstr(at + 2, ":]") : NULL;
		unsigned char low, high;

		if (end) {
			*matched |= in_class(c, at + 2, (size_t)(end - at - 2));
			at = end + 2;
			continue;
		}
		low = high = bracket_byte(&at);
		if (at[0] == '-' && at[1] && at[1] != ']') {
			at++;
			high = bracket_byte(&at);
		}
		*matched |= between(c, low, high);
	}
	*matched ^= negated;
	return *at ? at + 1 : NULL;
}

/* Does c match what the glob begins with? Behind that, or NULL. */
static const char *match_one(const char *glob, unsigned char c)
{
	const char *behind;
	bool matched;

	switch (*glob) {
	case '\0':
		return NULL;
	case '?':
		return glob + 1;
	case '[':
		behind = match_brackets(glob, c, &matched);
		if (behind)
			return matched ? behind : NULL;
		break;
	case '\\':
		glob++;
		break;
	}
	return (unsigned char)*glob == c ? glob + 1 : NULL;
}

bool glob_matches(const char *glob, const char *name)
{
	const char *star = NULL, *from = NULL; /* behind the last star, and where what follows it was last looked for */

	while (*name) {
		const char *behind;

		if (*glob == '*') {
			star = ++glob;
			from = name;
			continue;
		}
		behind = match_one(glob, (unsigned char)*name);
		if (behind) {
			glob = behind;
			name++;
		} else if (star) {
			glob = star;
			name = ++from;
		} else {
			return false;
		}
	}
	while (*glob == '*')
		glob++;
	return !*glob;
}

bool glob_is_closed(const char *glob)
{
	bool matched;

	while (glob && *glob)
		if (*glob == '[')
			glob = match_brackets(glob, 0, &matched);
		else
			glob += *glob == '\\' && glob[1] ? 2 : 1;
	return glob;
}
