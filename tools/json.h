/* SPDX-License-Identifier: MIT */
/* Writes JSON: commas, quoting and indentation are its business. */
#ifndef CPR_JSON_H
#define CPR_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Begin with (struct json){.out = stdout}. In an array, `key` is NULL, as it is for the outermost value. */
struct json {
	FILE *out;
	int depth;
	bool filled; /* the container at hand has a member already */
};

void json_object(struct json *j, const char *key);
void json_array(struct json *j, const char *key);

/* Ends the container opened last: `closer` is '}' or ']'. After the outermost comes a newline. */
void json_end(struct json *j, char closer);

/* Bytes that are not UTF-8 become U+FFFD each: JSON has no other way. */
void json_string(struct json *j, const char *key, const char *value);
void json_int(struct json *j, const char *key, int64_t value);
void json_unsigned(struct json *j, const char *key, uint64_t value);
/* what is not finite becomes null: JSON has no other way */
void json_double(struct json *j, const char *key, double value);
void json_bool(struct json *j, const char *key, bool value);

#endif
