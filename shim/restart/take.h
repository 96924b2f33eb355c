/* SPDX-License-Identifier: MIT */
/* Take: the supervisor's line, on which connections of an old generation come to this one. */
#ifndef CPR_RESTART_TAKE_H
#define CPR_RESTART_TAKE_H

#include "model/protocol.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * The supervisor asks on `sock`, which is this module's to close: from here on connections come on it. Or it is told
 * which worker is to be asked.
 */
void take_asked(int sock, const struct protocol_request *request);

/* Takes what has come, and knocks for it. ms until the next look; 0: nothing comes. */
int take_look(void);

/* Has the line ended, and all that came on it been accepted? Said once. */
bool take_is_done(void);

/* Is what is carried to this generation delivered by this process: the owner, or the worker that was asked to? */
bool take_delivers_here(void);

/* In a forked child, which has no part in it. */
void take_forget(void);

/* How many have come, or may have, and are in no queue yet. */
size_t take_left(void);

#endif
