/* SPDX-License-Identifier: MIT */
/* The doorbell: a queued signal comes in, one request is read, and answered. */
#ifndef CPR_RESTART_DOORBELL_H
#define CPR_RESTART_DOORBELL_H

#include "process/bell.h"

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

#endif
