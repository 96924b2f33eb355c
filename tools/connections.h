/* SPDX-License-Identifier: MIT */
/* A server's connections by where they stand: its own and its workers'. */
#ifndef CPR_CONNECTIONS_H
#define CPR_CONNECTIONS_H

#include "client.h"

enum connections_kind { CONNECTIONS_ALL, CONNECTIONS_FRESH, CONNECTIONS_IDLE, CONNECTIONS_BUSY, CONNECTIONS_KINDS };

/* What each is called in an answer and in JSON: "connections", "connections_fresh"… */
extern const char *const connections_key[CONNECTIONS_KINDS];

/*
 * What the process at `pid` said of its own in `answer`, and what its workers say when they are asked (those that do
 * not answer in time are left out). False: the answer says nothing of connections.
 */
bool connections_count(pid_t pid, const char *answer, int64_t n[CONNECTIONS_KINDS]);

#endif
