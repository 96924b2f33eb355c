/* SPDX-License-Identifier: MIT */
/* Processes that are about to exec. A worker announces that in the page, for the moment until its flags show it. */
#ifndef CPR_PROCESS_LEAVING_H
#define CPR_PROCESS_LEAVING_H

#include <stdbool.h>
#include <stdint.h>

/* Announces an exec of this process, and withdraws that. */
void leaving_begin(int me, uint64_t now);
void leaving_call_off(int me);

/*
 * Is that process in the middle of an exec, or already another program? It announces that itself, and may never
 * withdraw it.
 */
bool leaving_is(int pid, uint64_t start_time);

/* Waits, 20 ms at most, while the process has descriptors that its exec will close. */
void leaving_await(int pid);

#endif
