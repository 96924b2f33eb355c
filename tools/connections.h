/* SPDX-License-Identifier: MIT */
/* A server's connections by where they stand: its own and its workers'. */
#ifndef CPR_CONNECTIONS_H
#define CPR_CONNECTIONS_H

#include "client.h"

enum connections_kind { CONNECTIONS_ALL, CONNECTIONS_FRESH, CONNECTIONS_IDLE, CONNECTIONS_BUSY, CONNECTIONS_KINDS };

/* What each is called in an answer and in JSON: "connections", "connections_fresh"… */
extern const char *const connections_key[CONNECTIONS_KINDS];

/* What a restart would do with them now: each is carried, ended, or has a request under way. */
enum fate_kind { FATE_CARRIED, FATE_CLOSED, FATE_BUSY, FATES };

/*
 * What the process at `pid` said of its own in `answer`, and what its workers say when they are asked (those that do
 * not answer in time are left out). False: the answer says nothing of connections.
 */
bool connections_count(pid_t pid, const char *answer, int64_t n[CONNECTIONS_KINDS]);

/* The same of what it said to PROTOCOL_FORESEE. */
bool connections_fates(pid_t pid, const char *answer, int64_t n[FATES]);

#endif
