/* SPDX-License-Identifier: MIT */
/* The wires of the doorbell: the timer that rings it for ourselves, and the socket back to who rang. Knows nothing of requests. */
#ifndef CPR_PROCESS_BELL_H
#define CPR_PROCESS_BELL_H

#include "base/attr.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How often the doorbell, and nothing else, interrupted a system call of this thread. A wrapper compares it before and after its call. */
extern cpr_thread unsigned doorbell_rings;

/*
 * SA_RESTART does not reach every call (signal(7)): poll, sleep and others return EINTR after any handler, and many small servers end at that.
 * So a call that only the doorbell interrupted is made again. `r` is its result, `rings` the value of doorbell_rings before it.
 */
static inline bool doorbell_only_rang(long r, unsigned rings)
{
	return unlikely(r < 0 && errno == EINTR && doorbell_rings != rings);
}

/* Who asks for a tick; each has a timer, though every tick is for all of them. */
enum bell_timer { BELL_ARRIVAL, BELL_RESTART, BELL_WORKER, BELL_TIMERS };

/* Rings this process's doorbell (si_code SI_TIMER) once, ms from now, or earlier if an earlier tick of the same timer is due. A forked child makes its own
   timers at its first calls. A signal handler may call it. */
void bell_tick_in(enum bell_timer which, int ms);

/*
 * Connects to who rang with this nonce, and makes sure that it is root or this process's own user. Sends and receives take at most
 * PROTOCOL_TIMEOUT_MS. The socket, at a high number, close-on-exec; or -errno: -EPERM for a stranger. A signal handler may call it.
 */
int bell_answer(uint64_t nonce);

/* One message to who rang, then goodbye. Whoever is gone is gone: no error. */
void bell_report(uint64_t nonce, const void *bytes, size_t n);

#endif
