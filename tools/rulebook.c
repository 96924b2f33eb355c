/* SPDX-License-Identifier: MIT */
/* The rules that cpr-exec was given. */
#define _GNU_SOURCE
#include "rulebook.h"

#include "own.h"
#include "base/glob.h"
#include "model/rules.h"

#include <bsd/libutil.h>
#include <err.h>
#include <errno.h>
#include <string.h>

enum {
	USAGE = 2,
	TEXT_MAX = 128 * 1024 - 64, /* the kernel's limit for one string of the environment, less its name */
};

static struct rules rules; /* only to have them checked, and counted, by the library's own parser */
static char *text;
static size_t used;

/* Adds a line to the text. 0, or what rules_add says: -EINVAL, -E2BIG. */
static int add(const char *line)
{
	size_t n = strlen(line);
	char *longer = realloc(text, used + n + 2), *copy = strdup(line);
	int r;

	if (!longer || !copy)
		err(1, NULL);
	text = longer;
	if (used + n + 2 > TEXT_MAX) {
		free(copy);
		return -E2BIG;
	}
	r = rules_add(&rules, copy); /* which keeps the copy, or has no use for it */
	if (r) {
		free(copy);
		return r;
	}
	memcpy(text + used, line, n);
	memcpy(text + used + n, "\n", 2);
	used += n + 1;
	return 0;
}

void rulebook_add(const char *option, const char *word, const char *glob)
{
	cleanup_free char *line = NULL;
	int r;

	if (asprintf(&line, "%s%s%s", word, glob ? " " : "", glob ? glob : "") < 0)
		err(1, NULL);
	r = glob && (!*glob || strpbrk(glob, " \t\r\n")) ? -EINVAL : add(line);
	if (r == -E2BIG)
		errx(USAGE, "%s %s: there may be %d rules, of %d bytes together", option, glob ? glob : "",
		     (int)RULES_MAX, (int)TEXT_MAX);
	if (r)
		errx(USAGE,
		     "%s \"%s\": not a glob; it must not be empty, hold blanks (a ? stands for one) nor an open "
		     "bracket (\\[ stands for one)",
		     option, glob ? glob : "");
}

static void add_from_file(const char *path, size_t number, const char *line, size_t len)
{
	int r = strlen(line) == len ? 0 : -EINVAL; /* a NUL in it */

	if (!r && line[strspn(line, " \t\r")])
		r = add(line);
	if (r == -E2BIG)
		errx(USAGE, "%s:%zu: there may be %d rules, of %d bytes together", path, number, (int)RULES_MAX,
		     (int)TEXT_MAX);
	if (r && len == strlen(line) && !glob_is_closed(line))
		errx(USAGE, "%s:%zu: \"%s\" has a bracket that is not closed (\\[ stands for itself)", path, number,
		     line);
	if (r)
		errx(USAGE,
		     "%s:%zu: \"%s\" is not a rule; a line is one of: keep GLOB, drop GLOB, carry GLOB, no-carry", path,
		     number, line);
}

void rulebook_read(const char *path)
{
	cleanup_file FILE *file = fopen(path, "re");
	size_t number = 0, len;

	if (!file)
		err(USAGE, "--rules %s", path);
	for (;;) {
		cleanup_free char *line = fparseln(file, &len, &number, NULL, FPARSELN_UNESCCOMM);

		if (!line)
			break;
		add_from_file(path, number, line, len);
	}
	if (ferror(file))
		err(USAGE, "--rules %s", path);
}

const char *rulebook_text(void)
{
	return text;
}
