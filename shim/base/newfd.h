/* SPDX-License-Identifier: MIT */
/* Newfd: makes descriptors for us, even if the program has used up its numbers. */
#ifndef CPR_BASE_NEWFD_H
#define CPR_BASE_NEWFD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>

/*
 * on: sets the soft limit of open files to the hard one, and stores the earlier limits in *before. Otherwise: sets
 * *before again; if it is all zero, does nothing. A program may have few numbers left, and a descriptor that arrives in
 * a message and finds none is lost. Descriptors above a limit stay usable when the limit is lowered.
 */
void newfd_lift_limit(bool on, struct rlimit *before);

/*
 * Are `wanted` numbers free below the soft limit? It counts from above, where most free ones are, and takes none. Code
 * that took them to count them lost connections that another thread received in that moment.
 */
bool newfd_has_free(size_t wanted);

/*
 * Like the calls of these names, with close-on-exec. They also work if the program has used all numbers up to its soft
 * limit, so it may have one more descriptor for a moment. Return -1 with errno on failure.
 */
int newfd_socket(int domain, int type, int protocol);
int newfd_socketpair(int domain, int type, int pair[2]);
int newfd_open(const char *path, int flags);
int newfd_memfd(const char *name, unsigned flags);

#endif
