/* SPDX-License-Identifier: MIT */
/* The service manager, asked through systemctl(1). */
#ifndef CPR_MANAGER_H
#define CPR_MANAGER_H

#include "base/text.h"

/*
 * Runs systemctl with these words (the first is "systemctl"), or cprctl by its path. *out gets its output, which the
 * caller frees; NULL: not wanted. Returns 0; -ENOENT: this machine has none; -ECANCELED: it failed; -errno. On failure
 * `why` gets the reason.
 */
int manager_ask(char *const argv[], char **out, struct text *why);

#endif
