/* SPDX-License-Identifier: MIT */
/*
 * Take: connections come one by one from a generation that goes on beside this one. Any process of this program may
 * accept them.
 */
#ifndef CPR_DELIVER_TAKE_H
#define CPR_DELIVER_TAKE_H

#include "model/table.h"

#include <stdatomic.h>
#include <stdbool.h>

/* More may come: an empty queue stays open. */
extern _Atomic bool deliver_expects;

/* Makes what all processes of this generation share, before the first fork. Called once, behind a closed gate. */
void deliver_expect(void);

/*
 * No more come. Called in each process. Does nothing if the generation may serve again later: its workers could not be
 * given the queues then.
 */
void deliver_expect_no_more(void);

/*
 * Has this process a listener to knock at? Not if only its workers hold one, as with haproxy's master: that execs
 * itself when they exist, and its next image shares no queue with them.
 */
bool deliver_can_take(void);

/* Has it a listener for each of these keys (drain/scm_recv.h)? */
bool deliver_has_all(const uint64_t *keys, size_t count);

/* Takes the descriptor, and knocks for it at its listener. Returns false if there is no room now. Holding the guard. */
bool deliver_take(const struct entry *listener, int fd);

#endif
