/* SPDX-License-Identifier: MIT */
/* The doorbell: the signal by which one process asks something of the library in another. Knows nothing of requests. */
#ifndef CPR_PROCESS_DOORBELL_H
#define CPR_PROCESS_DOORBELL_H

#include "base/attr.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* Installs the handler, and lets the signal through in this thread. 0, or -errno. Once, when the library starts. */
int doorbell_init(void);

/*
 * What to call for a descriptor for which the kernel rang (fcntl(2), F_SETSIG): in the handler, lock-free. Once, when
 * the library starts.
 */
void doorbell_when_heard(void (*heard)(int fd));

/*
 * What to call for a signal of the doorbell's number that is no ring: raise(), timers and the like of a program that
 * uses the number too. In the handler, with every signal blocked. False: the program has no handler. Once, when the
 * library starts.
 */
void doorbell_when_foreign(bool (*deliver)(int sig, siginfo_t *info, void *context));

/*
 * The program has (not) a handler of its own for this signal. Whether it runs on the alternate stack, and whether calls
 * are made again after it, is the kernel's business: so SA_ONSTACK and SA_RESTART of ours are as it asked. Keeps errno.
 */
void doorbell_serve_program(bool handles, int flags);

/*
 * Rings one thread of this process, so that it comes out of a blocking call (process/active_calls.h). False: there is
 * no such thread.
 */
bool doorbell_call_out(int pid, int tid);

/* Ignored, from before an exec into a stranger on; and heard again, if that has failed. Keeps errno. */
void doorbell_mute(bool on);

/* The signals that are ours: the program can neither handle, block, nor wait for them. */
bool doorbell_owns(int sig);

/* Takes ours out of a set that the program made. */
void doorbell_spare(sigset_t *set);

/* The nonce of a caller that has rung and was not taken yet. False: there is none. The task's. */
bool doorbell_next(uint64_t *nonce);

/* Is there one? For any thread. */
bool doorbell_waits(void);

/* Was a restart asked for by CPR_RESTART_SIGNAL since the last call? The task's. */
bool doorbell_took_restart(void);

/* How often the doorbell, and nothing else, interrupted a system call in this thread: its wrapper may go on with it. */
extern cpr_thread unsigned doorbell_rings;

/*
 * SA_RESTART does not reach every call (signal(7)): poll, sleep and their like say EINTR after any handler, and many a
 * small server ends at that. So a call that was interrupted by the doorbell alone goes on. `r` is what it returned,
 * `rings` what doorbell_rings was before it.
 */
static inline bool doorbell_only_rang(long r, unsigned rings)
{
	return unlikely(r < 0 && errno == EINTR && doorbell_rings != rings);
}

#endif
