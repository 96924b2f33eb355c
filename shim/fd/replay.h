/* SPDX-License-Identifier: MIT */
/*
 * Socket options that the program set before bind(). They are noted while there are orphans, and set again on the
 * orphan that it claims.
 */
#ifndef CPR_FD_REPLAY_H
#define CPR_FD_REPLAY_H

#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>

void replay_note_option(int fd, int level, int name, const void *value, socklen_t len);
void replay_note_epoll(int epfd, int op, int fd, const struct epoll_event *event);

/*
 * Sets them on fd, in the program's order. An option that fails is set on the orphan already (a membership, V6ONLY
 * after bind). `ino`: of the fresh socket that was at fd. Holding the guard.
 */
void replay_onto(int fd, uint64_t ino);

/* Drops the options of a client's socket, which will claim nothing. */
void replay_forget_one(int fd);

/* Drops all: the arrival is over. */
void replay_forget(void);

#endif
