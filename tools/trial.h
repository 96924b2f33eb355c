/* SPDX-License-Identifier: MIT */
/* Runs the command that must succeed before a restart, as the process that is to be restarted would. */
#ifndef CPR_TRIAL_H
#define CPR_TRIAL_H

#include "base/text.h"

#include <sys/types.h>

/*
 * `sh -c command` in `directory` ("" stays where we are), as user uid and group gid with the supplementary groups of
 * process `pid` if we are root. What it says goes to our stderr if it fails. 0; -ECANCELED: it did not succeed before
 * `until` (io_now), and `why` says how; -errno: it could not be run, `why` says why.
 */
int trial_run(const char *command, const char *directory, pid_t pid, uid_t uid, gid_t gid, int64_t until,
	      struct text *why);

#endif
