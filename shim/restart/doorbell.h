/* SPDX-License-Identifier: MIT */
/* The doorbell: a queued signal comes in, one request is read, and answered. */
#ifndef CPR_RESTART_DOORBELL_H
#define CPR_RESTART_DOORBELL_H

#include "base/attr.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>

/* Hangs the doorbell: the handler, and the signal let through in this thread. 0, or -errno. */
int doorbell_init(void);

/* Ignored, from before an exec into a stranger on; and heard again, if that has failed. Keeps errno. */
void doorbell_mute(bool on);

/* The signals that are ours: the program can neither handle, block, nor wait for them. */
bool doorbell_owns(int sig);

/* Takes ours out of a set that the program made. */
void doorbell_spare(sigset_t *set);

/* How often the doorbell, and nothing else, interrupted a system call in this thread: its wrapper may go on with it. */
extern cpr_thread unsigned doorbell_rings;

/*
 * SA_RESTART does not reach every call (signal(7)): poll, sleep and their kin say EINTR after any handler, and many a small server ends at that. So
 * who was interrupted by the doorbell alone goes on. `r` is what the call returned, `rings` what doorbell_rings was before it.
 */
static inline bool doorbell_only_rang(long r, unsigned rings)
{
	return unlikely(r < 0 && errno == EINTR && doorbell_rings != rings);
}

#endif
