/* SPDX-License-Identifier: MIT */
/* The doorbell: a queued signal comes in, one request is read, and answered. */
#ifndef CPR_DOORBELL_H
#define CPR_DOORBELL_H

#include "attr.h"

#include <signal.h>
#include <stdbool.h>

/* Hangs the doorbell: the handler, and the signal let through in this thread. 0, or -errno. */
int doorbell_init(void);

/* The signals that are ours: the program can neither handle, block, nor wait for them. */
bool doorbell_owns(int sig);

/* Takes ours out of a set that the program made. */
void doorbell_spare(sigset_t *set);

/* How often the doorbell, and nothing else, interrupted a system call in this thread: its wrapper may go on with it. */
extern cpr_thread unsigned doorbell_rings;

#endif
