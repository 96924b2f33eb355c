/* SPDX-License-Identifier: MIT */
/* A knock: a local connection to a listener of ours. It wakes the program's loop and sends a secret word. */
#ifndef CPR_DELIVER_KNOCK_H
#define CPR_DELIVER_KNOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/*
 * Makes the record of knocks, with room for n, in shared memory. Called before the program forks: the owner writes the
 * record, and the workers that accept the knocks read it. False: no memory or no descriptor. Holding the guard.
 */
bool knock_prepare(size_t n);
bool knock_is_prepared(void); /* this process has a record: its own, or one that it joined */

/*
 * Shares the record with a process that was not forked from this one. knock_shared returns its memfd, which stays ours,
 * or -1 if there is none; knock_unshare closes that. The other process calls knock_join(fd). It returns true, and the
 * record of fd belongs to it from then on; false: fd holds no record. Holding the guard.
 */
int knock_shared(void);
bool knock_join(int fd);
void knock_unshare(void);

/* The address at which a local client reaches a listener. It stays valid when this process closes the listener. */
struct knock_door {
	struct sockaddr_storage addr;
	socklen_t len; /* 0: nowhere */
	int type;
	bool deferred; /* TCP_DEFER_ACCEPT: accept() waits for the client's first byte */
};
struct knock_door knock_door_of(int listener);

/* Has the listener TCP_DEFER_ACCEPT? Then the kernel holds a client back until it sends data. */
bool knock_is_deferred(int listener);

/* Knocks once and does not wait. False: the listener's queue or the record is full. Holding the guard. */
bool knock_at(const struct knock_door *door);

/*
 * What is the connection that was accepted at fd? KNOCK_NONE: a client. KNOCK_MADE: a knock, for which one carried
 * connection is delivered. KNOCK_GIVEN_UP: a knock that knock_at gave up and that entered the queue nevertheless; no
 * connection is delivered for it.
 */
enum knock_kind { KNOCK_NONE, KNOCK_MADE, KNOCK_GIVEN_UP };
enum knock_kind knock_kind(int fd);

/* Count a knock that was accepted; a knock whose client has its answer, or no request. Any process may call them. */
void knock_accepted(void);
void knock_served(void);

/*
 * Only one process at a time takes knocks out of the queues. If another process takes the connection that poll() saw,
 * accept() on a blocking listener sleeps forever. (Without this, 17 processes did in 50 rounds.) False: another process
 * takes them now.
 */
bool knock_begin_taking(void);
void knock_end_taking(void);

/* How many knocks are not accepted yet; how many are not served yet. */
size_t knock_unaccepted(void);
size_t knock_unserved(void);

/* Empties the record: the library waits for no knock any more. Holding the guard. */
void knock_forget_all(void);

#endif
