/* SPDX-License-Identifier: MIT */
/*
 * Pass: an old generation gives each idle connection to the next one, as soon as it is at a boundary. The program goes
 * on with the others.
 */
#ifndef CPR_RESTART_PASS_H
#define CPR_RESTART_PASS_H

#include <stdbool.h>

/* Starts to send connections on `sock`, and owns `sock`. */
void pass_begin(int sock);

/* Stops: what is frozen here goes on here. */
void pass_end(void);

bool pass_under_way(void);

/* Passes the connections that are at a boundary now. Returns the ms until the next look; 0: nothing is passed. */
int pass_look(void);

/*
 * Does an ended socket stand at this number, in the place of a connection that was passed on? Keeps errno. A signal
 * handler may call it.
 */
bool pass_left_end(int fd);

/* For a forked child, which does not take part. */
void pass_forget(void);

#endif
