/* SPDX-License-Identifier: MIT */
/* The service manager, asked through systemctl(1). */
#ifndef CPR_MANAGER_H
#define CPR_MANAGER_H

#include "base/text.h"

/*
 * Runs systemctl with these words (the first is "systemctl"), or cprctl by its path. *out: what it said, the caller's
 * to free; NULL: not wanted. 0; -ENOENT: this machine has none; -ECANCELED: it failed; -errno. On failure `why` says
 * how.
 */
int manager_ask(char *const argv[], char **out, struct text *why);

#endif
