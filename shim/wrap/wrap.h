/* SPDX-License-Identifier: MIT */
/* What wrappers share: the named functions behind those that a program can reach by several names, or by syscall(2). */
#ifndef CPR_WRAP_WRAP_H
#define CPR_WRAP_WRAP_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

struct epoll_event;

int cpr__openat(int dir, const char *path, int flags, mode_t mode);
int cpr__close(int fd);
int cpr__execve(const char *path, char *const argv[], char *const envp[]);

/* A mask that leaves the doorbell out: `mask` itself when it is not in there, else *room. */
const sigset_t *cpr__spared(const sigset_t *mask, sigset_t *room);

/*
 * A call on a socket was cut short by rings alone, and would be made again, with its whole SO_RCVTIMEO (or SO_SNDTIMEO, `option`): has it had that already? `since` begins as 0; the
 * first of them is when the reckoning begins, so that it costs no call that is not rung. Then errno is EAGAIN.
 */
bool cpr__timed_out(int fd, int option, int64_t *since);

/* A relative timeout as a time of CLOCK_MONOTONIC in ns, -1 for none; and what is left of it, NULL for none. */
int64_t cpr__deadline_of(const struct timespec *timeout);
const struct timespec *cpr__left_until(int64_t deadline, struct timespec *room);

#endif
