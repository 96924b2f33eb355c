/* SPDX-License-Identifier: MIT */
/* Take: the supervisor's connection, on which connections of an old generation come to this one. */
#ifndef CPR_RESTART_TAKE_H
#define CPR_RESTART_TAKE_H

#include "model/protocol.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * The supervisor asks on `sock`, which this function owns: from now on connections come on it. Or the answer names the
 * worker to ask.
 */
void take_asked(int sock, const struct protocol_request *request);

/* Takes what has come, and knocks for it. Returns the ms until the next look; 0: nothing comes. */
int take_look(void);

/*
 * The program executes itself: what has come goes into the queues, and no more comes on this line. The supervisor finds
 * that it has ended, and asks the next image. Holding the guard.
 */
void take_rest(void);

/* Has the supervisor's connection ended, and is everything that came on it accepted? True once. */
bool take_is_done(void);

/* Does this process, the owner or the worker that was asked, deliver what is carried to this generation? */
bool take_delivers_here(void);

/* For a forked child, which does not take part. */
void take_forget(void);

/* Returns how many have come, or may have, and are in no queue yet. */
size_t take_left(void);

#endif
