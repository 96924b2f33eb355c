/* SPDX-License-Identifier: MIT */
/* Writes JSON, with its commas, quotes and indentation. */
#ifndef CPR_JSON_H
#define CPR_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Begin with (struct json){.out = stdout}. In an array, `key` is NULL, as it is for the outermost value. */
struct json {
	FILE *out;
	int depth;
	bool filled; /* the current container has a member */
};

void json_object(struct json *j, const char *key);
void json_array(struct json *j, const char *key);

/* Ends the innermost container: `closer` is '}' or ']'. A newline follows the outermost. */
void json_end(struct json *j, char closer);

/* Each byte that is not UTF-8 becomes U+FFFD: JSON cannot express it. */
void json_string(struct json *j, const char *key, const char *value);
void json_int(struct json *j, const char *key, int64_t value);
void json_unsigned(struct json *j, const char *key, uint64_t value);
/* a value that is not finite becomes null: JSON cannot express it */
void json_double(struct json *j, const char *key, double value);
void json_bool(struct json *j, const char *key, bool value);

#endif
