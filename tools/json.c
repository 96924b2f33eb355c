/* SPDX-License-Identifier: MIT */
/* Writes JSON, RFC 8259. */
#define _GNU_SOURCE
#include "json.h"

#include "utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static void quoted(FILE *out, const char *s)
{
	putc('"', out);
	while (*s) {
		unsigned char c = (unsigned char)*s;
		size_t n = utf8_length(s);

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			fprintf(out, "\\u%04x", c);
		else if (n)
			fwrite(s, 1, n, out);
		else
			fputs("\\ufffd", out);
		s += n ? n : 1;
	}
	putc('"', out);
}

/* What stands before a value: the comma after the one before it, a line of its own, its key. */
static void lead(struct json *j, const char *key)
{
	if (j->depth)
		fprintf(j->out, "%s\n%*s", j->filled ? "," : "", j->depth * 2, "");
	j->filled = true;
	if (key) {
		quoted(j->out, key);
		fputs(": ", j->out);
	}
}

static void begin(struct json *j, const char *key, char opener)
{
	lead(j, key);
	putc(opener, j->out);
	j->depth++;
	j->filled = false;
}

void json_object(struct json *j, const char *key)
{
	begin(j, key, '{');
}

void json_array(struct json *j, const char *key)
{
	begin(j, key, '[');
}

void json_end(struct json *j, char closer)
{
	j->depth--;
	if (j->filled)
		fprintf(j->out, "\n%*s", j->depth * 2, "");
	putc(closer, j->out);
	if (!j->depth)
		putc('\n', j->out);
	j->filled = true;
}

void json_string(struct json *j, const char *key, const char *value)
{
	lead(j, key);
	quoted(j->out, value);
}

void json_int(struct json *j, const char *key, int64_t value)
{
	lead(j, key);
	fprintf(j->out, "%" PRId64, value);
}

void json_unsigned(struct json *j, const char *key, uint64_t value)
{
	lead(j, key);
	fprintf(j->out, "%" PRIu64, value);
}

/* As few digits as read back the same. The tools stay in the C locale, where the point is a point. */
void json_double(struct json *j, const char *key, double value)
{
	char digits[40];

	lead(j, key);
	if (!isfinite(value)) {
		fputs("null", j->out);
		return;
	}
	for (int precision = 6; precision <= 17; precision++) {
		snprintf(digits, sizeof(digits), "%.*g", precision, value);
		if (strtod(digits, NULL) == value)
			break;
	}
	fputs(digits, j->out);
}

void json_bool(struct json *j, const char *key, bool value)
{
	lead(j, key);
	fputs(value ? "true" : "false", j->out);
}
