/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that came by message (SCM_RIGHTS): connections that another process has accepted, on a listener of this
 * process, or on one that only its ancestor has.
 */
#ifndef CPR_DRAIN_SCM_RECV_H
#define CPR_DRAIN_SCM_RECV_H

#include "model/rules.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * This number came. If a program under cpr started this one (node's cluster workers), a connection of an unknown
 * listener gets the listener TAGGING_REMOTE. A listener is treated like one that the program was started with. Keeps
 * errno.
 */
void scm_recv_note(int fd);

/* Returns protocol_key of the address of a socket. */
uint64_t scm_recv_key(int fd);

/*
 * Is or was there anything here of the listeners with these keys? What came from any other listener is set aside: their
 * drain does not concern it. For a handler.
 */
bool scm_recv_is_of(const uint64_t *keys, size_t n);

/*
 * Returns the listener here on which a connection was accepted that a worker of TAGGING_REMOTE passes on; or NULL.
 * Compares the addresses, and not names: a name may ask for any port. (On a dual-stack listener the socket of a v4
 * client has that listener's family.) For a handler that holds the guard.
 */
const struct entry *scm_recv_listener(int fd);

/* rules_match for a connection of TAGGING_REMOTE, by its own address. */
bool scm_recv_matches(int fd, enum rule_verb verb);

#endif
