/* SPDX-License-Identifier: MIT */
/* What the library has said in its log. */
#ifndef CPR_TESTS_LOGGED_H
#define CPR_TESTS_LOGGED_H

#include "wrap.h"

#include <stdio.h>

/* In how many lines these words stand. */
static int times_logged(const char *words)
{
	char line[1024];
	int times = 0;
	FILE *log = fopen(in_room("cpr.log"), "re");

	while (log && fgets(line, sizeof(line), log))
		times += strstr(line, words) != NULL;
	if (log)
		fclose(log);
	return times;
}

#endif
