/* SPDX-License-Identifier: MIT */
/* Runs the command of --test before a restart, with the user and directory of the process. */
#ifndef CPR_TRIAL_H
#define CPR_TRIAL_H

#include "base/text.h"

#include <sys/types.h>

/*
 * Runs `sh -c command` in `directory` ("": the present one). If we are root: as user uid and group gid, with the
 * supplementary groups of process `pid`. Its output goes to our stderr if it fails. Returns 0; -ECANCELED: it did not
 * succeed before `until` (io_now); -errno: it could not be run. `why` gets the reason.
 */
int trial_run(const char *command, const char *directory, pid_t pid, uid_t uid, gid_t gid, int64_t until,
	      struct text *why);

#endif
