/* SPDX-License-Identifier: MIT */
/* The doorbell: the signal by which one process asks something of the library in another. Knows nothing of requests. */
#ifndef CPR_PROCESS_DOORBELL_H
#define CPR_PROCESS_DOORBELL_H

#include "base/attr.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Installs the handler, and unblocks the signal in this thread. Called once, when the library starts. Returns 0, or
 * -errno.
 */
int doorbell_init(void);

/*
 * Sets a function for descriptors about which the kernel signals (fcntl(2), F_SETSIG). It runs in the handler and takes
 * no lock. Called once, when the library starts.
 */
void doorbell_when_heard(void (*heard)(int fd));

/*
 * Sets a function for signals of the doorbell's number that are no ring: raise() and timers of a program that uses the
 * number too. It runs in the handler, with every signal blocked, and returns false if the program has no handler.
 * Called once, when the library starts.
 */
void doorbell_when_foreign(bool (*deliver)(int sig, siginfo_t *info, void *context));

/*
 * The program has set or removed a handler of its own for this signal. The kernel decides about the alternate stack and
 * about restarted calls, so our SA_ONSTACK and SA_RESTART become the program's. Keeps errno.
 */
void doorbell_serve_program(bool handles, int flags);

/*
 * Rings one thread of this process, so that it leaves a blocking call (process/active_calls.h). Returns false if there
 * is no such thread.
 */
bool doorbell_call_out(int pid, int tid);

/*
 * true: ignores the signal, before an exec into a program without the library. false: handles it again, if that exec
 * failed. Keeps errno.
 */
void doorbell_mute(bool on);

/* Is the signal ours? Then the program can neither handle it, nor block it, nor wait for it. */
bool doorbell_owns(int sig);

/* Removes our signals from a set of the program. */
void doorbell_spare(sigset_t *set);

/* Takes the nonce of a caller that has rung. Returns false if there is none. Only the task calls it. */
bool doorbell_next(uint64_t *nonce);

/* Is there such a caller? Any thread may ask. */
bool doorbell_waits(void);

/* Did CPR_RESTART_SIGNAL request a restart since the last call? Only the task calls it. */
bool doorbell_took_restart(void);

/* How often the doorbell alone interrupted a system call in this thread; then its wrapper may repeat the call. */
extern cpr_thread unsigned doorbell_rings;

/*
 * Was the call interrupted by the doorbell alone? Then the wrapper repeats it. SA_RESTART does not cover every call
 * (signal(7)): poll, sleep and others return EINTR after any handler, and many small servers end then. `r` is the
 * call's result, `rings` the value of doorbell_rings before it.
 */
static inline bool doorbell_only_rang(long r, unsigned rings)
{
	return unlikely(r < 0 && errno == EINTR && doorbell_rings != rings);
}

#endif
