/* SPDX-License-Identifier: MIT */
/* Preflight: is it certain that a restart would fail, or lose the service? */
#ifndef CPR_RESTART_PREFLIGHT_H
#define CPR_RESTART_PREFLIGHT_H

#include "base/text.h"

/*
 * 0; or -EPERM and, for a person, the reason and what to do in `why`. The process is not any more what it was at its
 * start; it has nothing to hand over but children, which do the work; its workers' System V shared memory would be
 * found in use by the next generation; or `path` would not run, or not with the library. Asked before anything is
 * touched. Not with the guard held. A signal handler may call it.
 */
int preflight(const char *path, struct text *why);

#endif
