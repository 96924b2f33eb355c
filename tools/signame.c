/* SPDX-License-Identifier: MIT */
/* Signals by name or number. */
#define _GNU_SOURCE
#include "signame.h"

#include <bsd/stdlib.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

/*
 * "+3" behind RTMIN, "-2" behind RTMAX, or nothing: steps away from `base`, at most to the other end of the real-time
 * signals.
 */
static int realtime(const char *offset, char sign, int base)
{
	const char *error;
	long long steps;

	if (!*offset)
		return base;
	if (*offset != sign || offset[1] < '0' || offset[1] > '9')
		return -EINVAL;
	steps = strtonum(offset + 1, 0, SIGRTMAX - SIGRTMIN, &error);
	return error ? -EINVAL : base + (sign == '+' ? (int)steps : -(int)steps);
}

int signame_parse(const char *name)
{
	const char *error;
	long long number;

	if (*name >= '0' && *name <= '9') {
		number = strtonum(name, 1, SIGRTMAX, &error);
		return error ? -EINVAL : (int)number;
	}
	if (!strncasecmp(name, "SIG", 3))
		name += 3;
	if (!strncasecmp(name, "RTMIN", 5))
		return realtime(name + 5, '+', SIGRTMIN);
	if (!strncasecmp(name, "RTMAX", 5))
		return realtime(name + 5, '-', SIGRTMAX);
	for (int signo = 1; signo < SIGRTMIN; signo++) {
		const char *known = sigabbrev_np(signo);

		if (known && !strcasecmp(name, known))
			return signo;
	}
	return -EINVAL;
}
