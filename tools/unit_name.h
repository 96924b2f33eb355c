/* SPDX-License-Identifier: MIT */
/* The name of a service, from the word that the user gave. */
#ifndef CPR_UNIT_NAME_H
#define CPR_UNIT_NAME_H

#include "base/text.h"

#include <stdbool.h>

enum { UNIT_NAME_SIZE = 256 };

/* "nginx" is nginx.service. False: it names no service that could be started; `why` says why. */
bool unit_name(const char *word, char *name, size_t size, struct text *why);

#endif
