/* SPDX-License-Identifier: MIT */
/* Deliver: what the last generation carried goes to the program through its own accept(). */
#ifndef CPR_DELIVER_QUEUE_H
#define CPR_DELIVER_QUEUE_H

#include "model/state.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

/* Takes what was passed on: descriptors that are no longer what they were are left alone. The table must be there. */
void deliver_adopt(const struct passed *passed, size_t n);

/*
 * More of them, which this process has accepted on another listener of that name: they come through accept() on
 * `listener`. Not where workers were forked before. What cannot be carried is closed. Holding the guard.
 */
void deliver_more(const char *name, int listener, int *fds, size_t n);

/*
 * The listener of that name listens again: from now on, one local connection is made to it (a knock) for each that was
 * carried from it.
 */
void deliver_to(const char *name, int fd);

/* The same for each listener that this program was started with: it listens already, and no bind() claims it. */
void deliver_to_inherited(void);

/* Are there knocks that the program has not accepted? */
extern _Atomic bool deliver_waiting;

/*
 * A process that was exec'ed with the listener accepts there as well. The one that carries answers with a message that
 * holds the record of knocks, and one for each queue, which holds an end of it; the other takes them in. Each by the
 * listener's inode; what does not come, or is not known, is nothing.
 */
void deliver_share(int sock, uint64_t ino);
void deliver_join(int sock, uint64_t ino);

/*
 * The doorbell rang because there is something to read at fd, as that was called when it was put aside to wait for
 * that. The handler calls it, and ticks then.
 */
void deliver_heard(int fd);

/* Are there connections that this process has still to knock for? */
bool deliver_is_knocking(void);

/* How many were carried, and are not accepted yet: in no process's hands. */
size_t deliver_count(void);

/*
 * From the tick: knocks on, ends what is closing; after grace (`late`) also what was not accepted. ms until the next
 * look; 0: nothing is left to do.
 */
int deliver_settle(bool late);

/* ---- leaving again, before the program has accepted every knock ---- */

/* Knocks out of the queues, and what they stood for into `into`, `most` at the most; how many. Holding the guard. */
size_t deliver_take_back(struct passed *into, size_t most);

/* The first half of it: out of the queues, and still here. */
void deliver_reclaim(void);

/*
 * The same for a process that goes on: its queues stay, and what is in `into` is the caller's from here on. Of these
 * listeners' descriptors `listener` names. Holding the guard.
 */
size_t deliver_give_away(struct passed *into, size_t most);

/* How many there are still, knocked for or not. */
size_t deliver_left(void);

/*
 * The program execs itself while carried connections are not accepted yet: to its workers, which take them from the
 * queues, all knocks are made now; where there are none, the connections go on with the state. Into `into`, `most` at
 * the most; how many. Holding the guard.
 */
size_t deliver_hand_on(struct passed *into, size_t most);

/*
 * The restart was called off: what was taken back from the last one's knocks is knocked for again. Holding the guard.
 */
void deliver_call_off(void);

#endif
