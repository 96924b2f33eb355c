/* SPDX-License-Identifier: MIT */
/*
 * What the program set on a socket before bind(), noted while there are orphans, and set again on the orphan that
 * it claims.
 */
#ifndef CPR_FD_REPLAY_H
#define CPR_FD_REPLAY_H

#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>

void replay_note_option(int fd, int level, int name, const void *value, socklen_t len);
void replay_note_epoll(int epfd, int op, int fd, const struct epoll_event *event);

/*
 * Sets it again, in the program's order. What fails now is set already on the orphan (a membership that stands,
 * V6ONLY after bind). `ino`: of the fresh socket that stood at fd. Holding the guard.
 */
void replay_onto(int fd, uint64_t ino);

/* This one is a client's: it will not be bound to what an orphan is. */
void replay_forget_one(int fd);

/* The arrival is over. */
void replay_forget(void);

#endif
