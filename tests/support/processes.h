/* SPDX-License-Identifier: MIT */
/* What /proc says of other processes. */
#ifndef CPR_TESTS_PROCESSES_H
#define CPR_TESTS_PROCESSES_H

#include "wrap.h"

#include <stdio.h>

/* False: the process has ended, perhaps after its file was opened. */
__attribute__((unused)) static bool line_of(int pid, const char *name, char *line, int size)
{
	char path[64];
	FILE *file;
	bool there;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	file = fopen(path, "re");
	if (!file)
		return false;
	there = fgets(line, size, file);
	CHECK(there || errno == ESRCH);
	fclose(file);
	return there;
}

/* As ps shows it; 0: there is no such process. */
__attribute__((unused)) static char state_of(int pid)
{
	char line[512];

	return line_of(pid, "stat", line, sizeof(line)) ? strrchr(line, ')')[2] : 0;
}

/* Is it another program by now? */
__attribute__((unused)) static bool is_sleep(int pid)
{
	char name[32];

	return line_of(pid, "comm", name, sizeof(name)) && !strcmp(name, "sleep\n");
}

#endif
