/* SPDX-License-Identifier: MIT */
/* Deliver: the program gets the carried connections from its own accept(). */
#ifndef CPR_DELIVER_QUEUE_H
#define CPR_DELIVER_QUEUE_H

#include "model/state.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

/* Takes over carried connections, and leaves alone descriptors that have changed. The table must exist. */
void deliver_adopt(const struct passed *passed, size_t n);

/*
 * Adds connections that this process accepted on another listener of that name: they come through accept() on
 * `listener`. Not if workers were forked before. Those that cannot be carried are closed. Holding the guard.
 */
void deliver_more(const char *name, int listener, int *fds, size_t n);

/*
 * The listener of that name listens again: from now on the library knocks once for each connection that was carried
 * from it.
 */
void deliver_to(const char *name, int fd);

/* The same for each listener that this program was started with: it listens already, and no bind() claims it. */
void deliver_to_inherited(void);

/* Are there knocks that the program has not accepted? */
extern _Atomic bool deliver_waiting;

/*
 * For a process that was exec'ed with the listener, and accepts there as well. The process with the carried connections
 * answers with one message for the record of knocks, and one for each queue, with an end of it. The other process takes
 * these over. Both by the listener's inode; missing or unknown ones are ignored.
 */
void deliver_share(int sock, uint64_t ino);
void deliver_join(int sock, uint64_t ino);

/* For the handler: there is something to read at fd (its number when it was set aside to wait for that). */
void deliver_heard(int fd);

/* Are there connections for which this process still has to knock? */
bool deliver_is_knocking(void);

/* Returns how many carried connections are not accepted yet. No process holds them. */
size_t deliver_count(void);

/*
 * From the tick: knocks, closes lingering connections, and after grace (`late`) also those that were not accepted.
 * Returns the ms until the next look; 0: nothing is left to do.
 */
int deliver_settle(bool late);

/* ---- leaving again, before the program has accepted every knock ---- */

/*
 * Takes the knocks out of the queues, and writes their connections into `into`, `most` at most. Returns how many.
 * Holding the guard.
 */
size_t deliver_take_back(struct passed *into, size_t most);

/* The first half of that: they leave the queues, and stay in this process. */
void deliver_reclaim(void);

/*
 * The same for a process that goes on: its queues stay, and the caller owns what is in `into`. `listener` there names
 * descriptors of these listeners. Holding the guard.
 */
size_t deliver_give_away(struct passed *into, size_t most);

/* Returns how many are left, with or without a knock. */
size_t deliver_left(void);

/*
 * The program execs itself before all carried connections are accepted. If it has workers, which take them from the
 * queues, all knocks are made now. Else the connections go on with the state: writes up to `most` into `into`, and
 * returns how many. Holding the guard.
 */
size_t deliver_hand_on(struct passed *into, size_t most);

/* The restart was called off: knocks again for what was taken back. Holding the guard. */
void deliver_call_off(void);

#endif
