/* SPDX-License-Identifier: MIT */
/* Preflight: would a restart certainly fail, or lose the service? */
#ifndef CPR_RESTART_PREFLIGHT_H
#define CPR_RESTART_PREFLIGHT_H

#include "base/text.h"

/*
 * Returns 0; or -EPERM, and `why` gets the reason and the remedy, for a person. Reasons: the process is not what it was
 * at its start. It has only children to hand over, which do the work. The next generation would find its workers'
 * System V shared memory in use. `path` would not run, or not with the library. Called before anything is changed. Not
 * holding the guard. A signal handler may call it.
 */
int preflight(const char *path, struct text *why);

#endif
