/* SPDX-License-Identifier: MIT */
/*
 * Take: connections that come one by one from a generation that goes on beside this one, to be accepted by this program
 * in whichever of its processes.
 */
#ifndef CPR_DELIVER_TAKE_H
#define CPR_DELIVER_TAKE_H

#include "model/table.h"

#include <stdatomic.h>
#include <stdbool.h>

/* More may come: what is empty stays open, and is not given up. */
extern _Atomic bool deliver_expects;

/* Once, behind a closed gate: makes what all processes of this generation must share before the first fork. */
void deliver_expect(void);

/*
 * No more come. In each process. Nothing happens where the generation may get its work back: its workers could not be
 * given the queues then.
 */
void deliver_expect_no_more(void);

/*
 * Has this process a listener to knock at? Not where only its workers hold one, as with haproxy's master, which execs
 * itself when they are there: its next image shares no queue with them.
 */
bool deliver_can_take(void);

/* Has it one of each of these keys (drain/scm_recv.h)? */
bool deliver_has_all(const uint64_t *keys, size_t count);

/* Knocks for one more at its listener. False: there is no room now. The descriptor is taken then. Holding the guard. */
bool deliver_take(const struct entry *listener, int fd);

#endif
