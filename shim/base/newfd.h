/* SPDX-License-Identifier: MIT */
/* Newfd: descriptors of our own, also where the program has no number left. */
#ifndef CPR_BASE_NEWFD_H
#define CPR_BASE_NEWFD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>

/*
 * Sets the soft limit of open files to the hard one (`on`), or back to what was found then (*before, the caller's;
 * zeroed, nothing was found). A program may have few numbers left, and what comes out of a message and finds none
 * is lost. Numbers above a limit stay good when that is as it was.
 */
void newfd_lift_limit(bool on, struct rlimit *before);

/*
 * Are so many numbers free below the soft limit? They are looked at from above, where most are, and not taken: code
 * that took them to see lost connections that another thread received in that moment.
 */
bool newfd_has_free(size_t wanted);

/*
 * What the calls of these names do, close-on-exec, also where the program has all numbers in use up to its soft limit:
 * while it waits in accept(), it has one more. -1 and errno.
 */
int newfd_socket(int domain, int type, int protocol);
int newfd_socketpair(int domain, int type, int pair[2]);
int newfd_open(const char *path, int flags);
int newfd_memfd(const char *name, unsigned flags);

#endif
