/* SPDX-License-Identifier: MIT */
/* Shared by wrappers: the named functions behind those that a program can reach by several names, or by syscall(2). */
#ifndef CPR_WRAP_WRAP_H
#define CPR_WRAP_WRAP_H

#include "base/io.h"

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

/*
 * Returns a mask without the doorbell, in *room; `mask` itself if it is NULL or cannot be read: the kernel refuses
 * that.
 */
const sigset_t *cpr__spared(const sigset_t *mask, sigset_t *room);

/*
 * Delivers signals of the doorbell's number that are no ring to the program's own handler. Called once, at the start.
 */
void cpr__deliver_own_signals(void);

/*
 * Only rings have interrupted a call on a socket, and it is to be repeated with its whole SO_RCVTIMEO (or SO_SNDTIMEO:
 * `option`). Has that time passed already? Then errno is EAGAIN. `since` begins as 0. The clock is first read after the
 * first ring, so a call without one costs nothing.
 */
bool cpr__timed_out(int fd, int option, int64_t *since);

/*
 * When a wait with a relative timeout (NULL: none) began; what is left of it after a ring, NULL for none. *timeout is
 * read only then: the kernel has accepted it.
 */
static inline int64_t cpr__began(const struct timespec *timeout);
const struct timespec *cpr__left(const struct timespec *timeout, int64_t began, struct timespec *room);

static inline int64_t cpr__began(const struct timespec *timeout)
{
	return timeout ? io_now() : 0;
}

/* rt_sigaction(2) of a signal of ours, by syscall(2). */
long cpr__sigaction_by_number(const long *a);

/* seccomp(2), which libc has no function for. */
long cpr__seccomp_by_number(const long *a);

/* By syscall(2): the kernel's forms, which write what is left of the time into the timeout. */
long cpr__poll_by_number(const long *a);
long cpr__select_by_number(const long *a);

/* By syscall(2): is it a call of wrap/credentials.c; makes that call. */
bool cpr__is_of_credentials(long nr);
long cpr__without_task(long nr, const long *a);

#endif
