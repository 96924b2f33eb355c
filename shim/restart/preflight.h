/* SPDX-License-Identifier: MIT */
/* Is it to be foreseen that a restart would lose the service? */
#ifndef CPR_RESTART_PREFLIGHT_H
#define CPR_RESTART_PREFLIGHT_H

#include "base/text.h"

/*
 * True, and the reason and what to do, for a person, in `why`: the process has nothing to hand over but children, which do the work; or workers whose System V shared
 * memory the next generation would find in use. Asked before anything is touched. Not with the guard held. A signal handler may call it.
 */
bool preflight_loss(struct text *why);

#endif
