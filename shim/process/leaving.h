/* SPDX-License-Identifier: MIT */
/* Processes that are about to exec: a worker says so in the page, for the moment until its flags show it. */
#ifndef CPR_PROCESS_LEAVING_H
#define CPR_PROCESS_LEAVING_H

#include <stdbool.h>
#include <stdint.h>

/* This process does; and the way back. */
void leaving_begin(int me, uint64_t now);
void leaving_call_off(int me);

/* Is that process in the middle of an exec, or by now another program? (As it says itself: it may say so for good.) */
bool leaving_is(int pid, uint64_t start_time);

/* Has it descriptors that the exec will close? Then that is waited for, 20 ms at the most. */
void leaving_await(int pid);

#endif
