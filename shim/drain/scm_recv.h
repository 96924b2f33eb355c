/* SPDX-License-Identifier: MIT */
/*
 * What came by message (SCM_RIGHTS): connections that another process has accepted, of a listener that this one knows,
 * or of one that only its starter has.
 */
#ifndef CPR_DRAIN_SCM_RECV_H
#define CPR_DRAIN_SCM_RECV_H

#include "model/rules.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * This number came. In a program that one under cpr has started (node's cluster workers), a connection of an unknown
 * listener is followed as one of TAGGING_REMOTE, and a listener as one that the program was started with. Keeps errno.
 */
void scm_recv_note(int fd);

/* protocol_key of the address of a socket. */
uint64_t scm_recv_key(int fd);

/*
 * Is anything here, or was there, of the listeners with these keys? What came and is of no such one is put aside: a
 * drain for them has nothing to do with it. By a handler.
 */
bool scm_recv_is_of(const uint64_t *keys, size_t n);

/*
 * The listener here on which a connection was accepted that a worker of TAGGING_REMOTE passes on; or NULL. By their
 * addresses, and not by its name: that is what the program asked for, which may have been any port. (A v4 client of a
 * dual-stack listener has a socket of that one's family.) By a handler, holding the guard.
 */
const struct entry *scm_recv_listener(int fd);

/* As rules_match, of a connection of TAGGING_REMOTE: by its own address. */
bool scm_recv_matches(int fd, enum rule_verb verb);

#endif
