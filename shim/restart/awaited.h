/* SPDX-License-Identifier: MIT */
/*
 * Awaited: what can end a wait of the program. A server that waits for work is ready. One that asks a database at its
 * start, or the manager for the name of its user, waits too, before it has bound anything: that shows no readiness.
 */
#ifndef CPR_RESTART_AWAITED_H
#define CPR_RESTART_AWAITED_H

#include <poll.h>
#include <stdbool.h>
#include <sys/select.h>

enum awaited {
	AWAITED_WORK = 1,   /* a client, a signal, a file: anything that comes from outside, and what is not known */
	AWAITED_ANSWER = 2, /* nothing but connections that this process has made, and what follows */
	AWAITED_ITSELF = 4, /* nothing but the time, the process's own threads, or a child */
};

/*
 * `limited`: after some time it ends by itself. Without that, and with nothing to look at, only a signal ends it: that
 * is work. In a sandbox, whose filter may not know the calls that this takes, everything is. errno stays. `fds` is not
 * const: gcc takes that for a read of what poll(2) would only write.
 */
enum awaited awaited_by_poll(struct pollfd *fds, nfds_t n, bool limited);
enum awaited awaited_by_select(int n, const fd_set *r, const fd_set *w, const fd_set *x, bool limited);
enum awaited awaited_by_epoll(int epfd, bool limited);

#endif
