/* SPDX-License-Identifier: MIT */
/*
 * Connections that this process gives to others by message (SCM_RIGHTS): node's cluster primary does so with all that
 * it accepts.
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
 * Call these around a call that sends such messages on `fd`. scm_send_begin returns 0: make the call. Else -EAGAIN, or
 * -EINTR after a signal if the call would block. In a drain, a connection that this process has not used stays here and
 * is carried from here: the receiver may have reported its own already. scm_send_end: it was sent, or not.
 */
int scm_send_begin(int fd, const struct msghdr *message, int flags);
void scm_send_end(const struct msghdr *message, bool sent);

/*
 * In a drain: have all given connections been received? Ask repeatedly: two positive answers since scm_send_look_anew
 * mean that nothing is on its way. A connection that the program keeps although it gave it counts as on its way for
 * half a second at most.
 */
void scm_send_look_anew(void);
bool scm_send_is_settled(void);

#endif
