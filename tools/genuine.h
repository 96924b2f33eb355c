/* SPDX-License-Identifier: MIT */
/* Genuine: is a descriptor what its tag says? Asked of the kernel. */
#ifndef CPR_GENUINE_H
#define CPR_GENUINE_H

#include "model/table.h"

/* The kernel's name of a socket against the tag. A tag names what was asked for: port 0 stays 0, and a path is absolute
 * that may have been bound as a relative one. */
bool genuine_name(const char *tag, const char *kernel);

/*
 * Is this what the tag says? The generation that gives it may have dropped rights since its start: it must not make its
 * successor, which has them, take another object for the one that it could not have bound or opened itself.
 */
bool genuine_is(const struct entry *e, int fd);

#endif
