/* SPDX-License-Identifier: MIT */
/* Whether a drain is on. */
#include "drain/drain_phase.h"

#include "process/birth.h"

#include <errno.h>

cpr_touched _Atomic bool drain_active;
_Atomic bool drain_passes;

bool drain_is_ours(void)
{
	int saved_errno = errno;

	birth_own_memory(); /* a child's first question */
	errno = saved_errno;
	return atomic_load(&drain_active);
}
