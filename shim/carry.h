/* SPDX-License-Identifier: MIT */
/* Carry: an idle connection goes to the next generation through its own accept(). */
#ifndef CPR_CARRY_H
#define CPR_CARRY_H

#include "conn.h"
#include "state.h"

#include <sys/socket.h>

/* ---- the generation that leaves ---- */

struct carry_count {
	size_t carried, closed, cut;
};

/* Would this connection, which stands at a boundary, be carried? */
bool carry_may(const struct conn *c, int fd);

/*
 * May this connection, at fd, be carried beside those of the `n` in `already` that are? A listener with TCP_DEFER_ACCEPT says of its program that it counts on a first word in what it
 * accepts, and may give it a thread until then: of connections with nothing unread it gets a few.
 */
bool carry_has_room_for(const struct entry *listener, int fd, const struct passed *already, size_t n);

/*
 * What becomes of each connection: carried (idle, and of a protocol without state), or closed by the next generation as the server would, after its last
 * byte. Those that are not at a boundary are counted as cut, and closed so too if `busy_too` (else they stay with this process). Into `into`, `most` at the most (the
 * rest is closed by exec); how many.
 */
size_t carry_choose(struct passed *into, size_t most, bool busy_too, struct carry_count *count);

/*
 * The program execs itself while carried connections are not accepted yet: to its workers, who take them from the queues, all knocks are made now; where there are none, the connections
 * go on with the state. Into `into`, `most` at the most; how many. Holding the guard.
 */
size_t carry_hand_on(struct passed *into, size_t most);

/* The restart was called off: what was taken back from the last one's knocks is knocked for again. Holding the guard. */
void carry_call_off(void);

/* ---- the generation that arrives ---- */

/* What waits for a knock is in the table as an orphan of this name. */
#define CARRY_PREFIX "carried:"

/* Takes what was passed on: descriptors that are no longer what they were are left alone. The table must be there. */
void carry_adopt(const struct passed *passed, size_t n);

/* The listener of that name listens again: from now on, one local connection is made to it (a knock) for each that was carried from it. */
void carry_knock(const char *name, int fd);

/* Are there knocks that the program has not accepted? */
extern _Atomic bool carry_waiting;

/*
 * accept() on `listener` gave `fd`. 0: a client. 1: a knock; a carried connection stands at fd now, and addr, len (may be NULL) name its peer. -1: a knock, and nobody
 * left to carry: fd is closed, accept again. `flags` as accept4's. Keeps errno.
 */
int carry_accepted(int listener, int fd, int flags, struct sockaddr *addr, socklen_t *len);

/* The program has written on this connection, and carry_waiting is on. Keeps errno. */
void carry_wrote(int fd);

/* Are there connections that this process has still to knock for? */
bool carry_is_knocking(void);

/* From the tick: knocks on, ends what is closing; after grace (`late`) also what nobody accepted. ms until the next look; 0: nothing is left to do. */
int carry_settle(bool late);

#endif
