/* SPDX-License-Identifier: MIT */
/* Tables for tests: names of a length, tables of many entries. */
#ifndef CPR_TEST_ENTRIES_H
#define CPR_TEST_ENTRIES_H

#include "model/table.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A name of exactly `length` bytes that begins so. */
static inline char *long_name(const char *head, size_t length)
{
	char *name = malloc(length + 1);

	memset(name, 'x', length);
	memcpy(name, head, strlen(head));
	name[length] = '\0';
	return name;
}

/* Seconds since some start, for telling slow from fast. */
static inline double seconds_by(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static inline double seconds(void)
{
	return seconds_by(CLOCK_MONOTONIC);
}

/* What this process alone has used: for limits that must hold on a busy machine as well. */
static inline double processor_seconds(void)
{
	return seconds_by(CLOCK_PROCESS_CPUTIME_ID);
}

#endif
