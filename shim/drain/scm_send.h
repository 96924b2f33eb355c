/* SPDX-License-Identifier: MIT */
/*
 * Connections that this process gives to others by message (SCM_RIGHTS), as the primary of node's cluster does with all
 * that it accepts.
 */
#ifndef CPR_DRAIN_SCM_SEND_H
#define CPR_DRAIN_SCM_SEND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

/* Was any ever given? */
extern _Atomic bool scm_send_any;

/* Is a connection of ours in this message? */
bool scm_send_has_connection(const struct msghdr *message);

/*
 * Around a call that sends such messages by `fd`. scm_send_begin says 0: make the call. Else -EAGAIN or, where it would
 * have to wait, -EINTR for a signal of the program's: in a drain what this process has not touched stays here, and is
 * carried from here, since the receiver may have said already what it has. scm_send_end: it was sent, or not.
 */
int scm_send_begin(int fd, const struct msghdr *message, int flags);
void scm_send_end(const struct msghdr *message, bool sent);

/*
 * In a drain: has all that was given been received? Asked again and again: once it has said so twice since
 * scm_send_look_anew, nothing is on its way any more. What the program keeps, although it has given it, counts as on
 * its way for half a second at the most.
 */
void scm_send_look_anew(void);
bool scm_send_is_settled(void);

#endif
