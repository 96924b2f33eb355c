/* SPDX-License-Identifier: MIT */
#include "base/glob.h"

#include <criterion/criterion.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

static void draw(unsigned *seed, const char *from, char *to, int most)
{
	int n = rand_r(seed) % most;

	for (int i = 0; i < n; i++)
		to[i] = from[(size_t)rand_r(seed) % strlen(from)];
	to[n] = '\0';
}

Test(glob, answers_as_fnmatch_does)
{
	char glob[16], name[12];
	unsigned seed = 11;

	for (int i = 0; i < 400000; i++) {
		draw(&seed, i % 2 ? "ab*?c/" : "ab*?[]!^-\\c/", glob, sizeof(glob));
		draw(&seed, i % 3 ? "abc/" : "abc-]!^[/", name, sizeof(name));
		cr_assert_eq(glob_matches(glob, name), !fnmatch(glob, name, 0), "%s on %s", glob, name);
	}
}

Test(glob, knows_classes)
{
	static const char *const globs[] = {"[[:alpha:]]", "[[:digit:]]", "[[:alnum:]_]", "[![:upper:]]",
					    "[[:lower:]]", "[[:space:]]", "[[:blank:]]",  "[[:punct:]]",
					    "[[:print:]]", "[[:graph:]]", "[[:cntrl:]]",  "[[:xdigit:]]",
					    "[[.a.]-c]",   "[[=a=]]"};

	for (size_t i = 0; i < sizeof(globs) / sizeof(globs[0]); i++)
		for (int c = 1; c < 128; c++) {
			char name[] = {(char)c, '\0'};

			cr_assert_eq(glob_matches(globs[i], name), !fnmatch(globs[i], name, 0), "%s on %d", globs[i],
				     c);
		}
}

Test(glob, is_not_slow_with_many_stars)
{
	char name[4096];

	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	cr_assert_not(glob_matches("*a*a*a*a*a*a*a*a*a*a*a*a*b", name));
}
