/* SPDX-License-Identifier: MIT */
/* A seccomp filter that lets a supervisor see, and answer, the few calls by which a program gets its listeners. */
#ifndef CPR_SECCOMP_FILTER_H
#define CPR_SECCOMP_FILTER_H

#include <stdbool.h>

/* Does this machine's filter exist? The numbers of system calls differ between architectures. */
bool seccomp_filter_exists(void);

/*
 * Puts the filter on this process, and so on all that it starts: bind, listen, unlink and unlinkat are notified, and
 * all else is allowed. The last two always: a generation may open its first unix socket late, and remove its file when
 * the next one has it. Without CAP_SYS_ADMIN the kernel asks for no_new_privs, which is set then: setuid programs that
 * it starts get no rights. The descriptor that is notified, or -errno.
 */
int seccomp_filter_install(void);

#endif
