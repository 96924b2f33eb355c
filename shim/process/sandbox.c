/* SPDX-License-Identifier: MIT */
/* A seccomp filter that the program installs. */
#include "process/sandbox.h"

#include "base/log.h"
#include "base/readable.h"

enum { PREPARING_MAX = 4 };

cpr_touched _Atomic bool sandbox_on;
static void (*preparing[PREPARING_MAX])(void);
static int preparing_count;

void sandbox_when_entering(void (*prepare)(void))
{
	if (preparing_count < PREPARING_MAX)
		preparing[preparing_count++] = prepare;
}

void sandbox_enter(bool *was)
{
	*was = atomic_load(&sandbox_on);
	if (*was)
		return;
	for (int i = 0; i < preparing_count; i++)
		preparing[i]();
	log_pause(true);
	readable_pause(true);
	atomic_store(&sandbox_on, true);
}

void sandbox_failed(bool was)
{
	if (was)
		return;
	atomic_store(&sandbox_on, false);
	log_pause(false);
	readable_pause(false);
}
