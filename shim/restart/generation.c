/* SPDX-License-Identifier: MIT */
/* Which generation this is. */
#include "restart/generation.h"

#include "base/io.h"

static int number = 1;
static int64_t first_at, started_at;

_Atomic bool generation_is_settling;

void generation_begins(void)
{
	started_at = first_at = io_now();
}

void generation_follows(int last, int64_t first)
{
	number = last + 1;
	first_at = first;
}

int generation_number(void)
{
	return number;
}

int64_t generation_first_at(void)
{
	return first_at;
}

int64_t generation_started_at(void)
{
	return started_at;
}
