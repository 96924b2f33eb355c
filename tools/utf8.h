/* SPDX-License-Identifier: MIT */
/* Strings of unknown origin (paths, command lines) made fit to show. */
#ifndef CPR_UTF8_H
#define CPR_UTF8_H

#include "base/text.h"

/* Bytes of the well-formed UTF-8 character at `s`, 1 to 4; 0: none stands there (or the string ends). */
size_t utf8_length(const char *s);

/* Columns that a string takes on a terminal, as far as that is one for each character. */
size_t utf8_width(const char *s);

/*
 * Appends `s` with control characters and ill-formed bytes as \xHH: what a stranger's process is called must not steer
 * a terminal.
 */
void utf8_add_printable(struct text *t, const char *s);

#endif
