/* SPDX-License-Identifier: MIT */
/* A knock: a local connection to a listener of ours, that wakes the program's loop up and says what it is. */
#ifndef CPR_DELIVER_KNOCK_H
#define CPR_DELIVER_KNOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/*
 * Room for the record of n knocks, before the program forks: its workers, which accept them, read what the owner
 * writes. False: there is none.
 */
bool knock_prepare(size_t n);
bool knock_is_prepared(void); /* or has joined another process's */

/*
 * The record as a memfd, for a process that was not forked; -1: there is none (any more). Who gets it looks at the same
 * record: false if it is none. Holding the guard.
 */
int knock_shared(void);
bool knock_join(int fd);
void knock_unshare(void);

/* Where a local client reaches a listener. The program may close the listener, and leave it to its workers. */
struct knock_door {
	struct sockaddr_storage addr;
	socklen_t len; /* 0: nowhere */
	int type;
	bool deferred; /* accept() is deferred until a word has come: TCP_DEFER_ACCEPT */
};
struct knock_door knock_door_of(int listener);

/* Does the kernel keep clients of this listener back until they have said something? */
bool knock_is_deferred(int listener);

/*
 * Knocks once, without waiting. False when the listener's queue takes no more, or the record has no room left. Holding
 * the guard.
 */
bool knock_at(const struct knock_door *door);

/*
 * Is the connection that was accepted at fd one of ours? One that was given up, and came in after all, stands for
 * nobody.
 */
enum knock_kind { KNOCK_NONE, KNOCK_MADE, KNOCK_GIVEN_UP };
enum knock_kind knock_kind(int fd);

/* One was accepted; and the client it stood for is served, or has asked for nothing. Any process. */
void knock_accepted(void);
void knock_served(void);

/*
 * One process at a time takes knocks out of the queues: accept() on a blocking listener sleeps for good if another has
 * taken what poll() saw. (17 processes of the bare pattern slept so in 50 rounds.) False: another process is at it, and
 * has all of them.
 */
bool knock_begin_taking(void);
void knock_end_taking(void);

/* How many have not been accepted; not been served. */
size_t knock_unaccepted(void);
size_t knock_unserved(void);

/* Nobody is waited for any more: the record is free. Holding the guard. */
void knock_forget_all(void);

#endif
