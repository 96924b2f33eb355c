/* SPDX-License-Identifier: MIT */
/* A server's connections by their state: its own and its workers'. */
#ifndef CPR_CONNECTIONS_H
#define CPR_CONNECTIONS_H

#include "client.h"

enum connections_kind { CONNECTIONS_ALL, CONNECTIONS_FRESH, CONNECTIONS_IDLE, CONNECTIONS_BUSY, CONNECTIONS_KINDS };

/* The key of each in an answer and in JSON: "connections", "connections_fresh"… */
extern const char *const connections_key[CONNECTIONS_KINDS];

/* What a restart would do with them now: carry, close, or wait for a request under way. */
enum fate_kind { FATE_CARRIED, FATE_CLOSED, FATE_BUSY, FATES };

/*
 * Adds up what the process at `pid` has in `answer`, and what its workers answer. Those that do not answer in time are
 * left out. Returns false if `answer` has no connections.
 */
bool connections_count(pid_t pid, const char *answer, int64_t n[CONNECTIONS_KINDS]);

/* The same for the answers to PROTOCOL_FORESEE. */
bool connections_fates(pid_t pid, const char *answer, int64_t n[FATES]);

#endif
