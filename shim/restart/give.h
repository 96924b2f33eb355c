/* SPDX-License-Identifier: MIT */
/* Give: the state and all kept descriptors, to the supervisor, while this generation goes on. */
#ifndef CPR_RESTART_GIVE_H
#define CPR_RESTART_GIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* To the caller on `sock`; the text says how many processes will. `with_start`: PROTOCOL_WITH_START. */
void give_on(int sock, size_t processes, bool with_start);

/* A worker's, to the caller at this nonce. */
void give_to(uint64_t nonce);

/*
 * One message of `n` bytes with `count` descriptors beside it; waits while the other end takes nothing, for at most
 * `ms`. 0, or -errno.
 */
int give_send(int sock, const void *bytes, size_t n, const int *fds, size_t count, int ms);

#endif
