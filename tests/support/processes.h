/* SPDX-License-Identifier: MIT */
/* What /proc says of other processes. */
#ifndef CPR_TESTS_PROCESSES_H
#define CPR_TESTS_PROCESSES_H

#include "wrap.h"

#include <stdio.h>

/* As ps shows it; 0: there is no such process. */
__attribute__((unused)) static char state_of(int pid)
{
	char path[64], line[512] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (!file)
		return 0; /* gone for good */
	CHECK(fgets(line, sizeof(line), file));
	fclose(file);
	return strrchr(line, ')')[2];
}

/* Is it another program by now? */
__attribute__((unused)) static bool is_sleep(int pid)
{
	char path[64], name[16] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	file = fopen(path, "re");
	if (file) {
		CHECK(fgets(name, sizeof(name), file));
		fclose(file);
	}
	return !strcmp(name, "sleep\n");
}

#endif
