/* SPDX-License-Identifier: MIT */
/* Makes strings of unknown origin (paths, command lines) fit for display. */
#ifndef CPR_UTF8_H
#define CPR_UTF8_H

#include "base/text.h"

/* Returns the bytes of the valid UTF-8 character at `s`, 1 to 4; 0: there is none, or the string ends. */
size_t utf8_length(const char *s);

/* Returns the columns of a string on a terminal, if each character takes one. */
size_t utf8_width(const char *s);

/* Appends `s` with control characters and invalid bytes as \xHH: another process's name must not control a terminal. */
void utf8_add_printable(struct text *t, const char *s);

#endif
