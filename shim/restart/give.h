/* SPDX-License-Identifier: MIT */
/* Give: sends the state and all kept descriptors to the supervisor, while this generation goes on. */
#ifndef CPR_RESTART_GIVE_H
#define CPR_RESTART_GIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Sends to the caller on `sock`. The text tells the number of processes that will send. `with_start`:
 * PROTOCOL_WITH_START.
 */
void give_on(int sock, size_t processes, bool with_start);

/* The same of a worker, to the caller at this nonce. */
void give_to(uint64_t nonce);

/*
 * Sends one message of `n` bytes with `count` descriptors. Waits `ms` at most while the other end takes nothing.
 * Returns 0, or -errno.
 */
int give_send(int sock, const void *bytes, size_t n, const int *fds, size_t count, int ms);

#endif
