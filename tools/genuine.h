/* SPDX-License-Identifier: MIT */
/* Genuine: is a descriptor what its tag says? The kernel answers. */
#ifndef CPR_GENUINE_H
#define CPR_GENUINE_H

#include "model/table.h"

/*
 * Does the kernel's name of a socket agree with the tag? A tag has what was asked for: port 0 stays 0. Its path is
 * absolute, and may have been bound as a relative one.
 */
bool genuine_name(const char *tag, const char *kernel);

/*
 * Is this what the tag says? The generation that gives it may have dropped rights since its start. Its successor has
 * them, and must not take an object that the old one could not have bound or opened itself.
 */
bool genuine_is(const struct entry *e, int fd);

#endif
