/* SPDX-License-Identifier: MIT */
/* A seccomp filter by which a supervisor sees, and answers, the few calls with which a program gets its listeners. */
#ifndef CPR_SECCOMP_FILTER_H
#define CPR_SECCOMP_FILTER_H

#include <stdbool.h>

/* Is there a filter for this machine? System call numbers differ between architectures. */
bool seccomp_filter_exists(void);

/*
 * Puts the filter on this process, and so on all that it starts. It notifies of bind, listen, unlink and unlinkat, and
 * allows all else. The last two are always included: a generation may open its first unix socket late, and remove its
 * file when the next one has it. Without CAP_SYS_ADMIN it sets no_new_privs, as the kernel demands: setuid programs
 * that the server starts get no rights. Returns the descriptor that gets the notices, or -errno.
 */
int seccomp_filter_install(void);

#endif
