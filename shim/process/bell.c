/* SPDX-License-Identifier: MIT */
/* The timer that rings, and the socket back to who rang. */
#define _GNU_SOURCE
#include "process/bell.h"

#include "process/guard.h"
#include "base/io.h"
#include "base/log.h"
#include "base/next.h"
#include "base/raw.h"
#include "model/protocol.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

cpr_thread unsigned doorbell_rings;

static struct timer {
	_Atomic int id, pid;
	_Atomic int64_t due;
} timers[BELL_TIMERS];

/* The process's own; made at the first call. By system call: libc's timer_create may call malloc, and we may be in a handler. */
static bool have(struct timer *timer)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = cpr__settings.signal};
	int me = getpid(), id;

	if (likely(timer->pid == me))
		return true;
	if (next_sys(SYS_timer_create, CLOCK_MONOTONIC, &event, &id)) {
		log_warn("no timer (%m): orphans stay open, workers of the last generation too");
		return false;
	}
	timer->id = id;
	timer->due = 0;
	timer->pid = me;
	return true;
}

/*
 * Timers are not inherited by a child, and end at exec, but a tick that is queued by then goes with us: leaving keeps the doorbell blocked across exec, so that it cannot kill
 * who has no handler yet. One timer for all would be enough, since who ticks looks at everything, but for this: to set a timer again takes back its signal if that is queued
 * and not delivered yet (Linux 6.13), and so a slow look of the arrival, in one thread, took back the step of a drain that another was about to make.
 */
void bell_tick_in(enum bell_timer which, int ms)
{
	struct timer *timer = &timers[which];
	int64_t now = io_now(), wanted = now + ms * INT64_C(1000000), due;
	struct itimerspec when = {.it_value = {wanted / 1000000000, wanted % 1000000000}};
	int saved_errno = errno;

	if (have(timer)) {
		due = timer->due;
		if (due <= now || due > wanted) { /* else the earlier one will do */
			timer->due = wanted;
			next_sys(SYS_timer_settime, timer->id, TIMER_ABSTIME, &when, NULL);
		}
	}
	errno = saved_errno;
}

int bell_answer(uint64_t nonce)
{
	struct timeval patience = {PROTOCOL_TIMEOUT_MS / 1000, PROTOCOL_TIMEOUT_MS % 1000 * 1000};
	struct sockaddr_un addr;
	socklen_t len = protocol_address(nonce, &addr), peer_len;
	cleanup_fd int sock = next_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct ucred peer;

	if (sock < 0)
		return -errno;
	sock = io_move_up(sock, PROTOCOL_HIGH);
	if (next_setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
	    next_setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) || raw_connect(sock, (struct sockaddr *)&addr, len))
		return -errno;
	peer_len = sizeof(peer);
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len))
		return -errno;
	if (peer.uid && peer.uid != geteuid()) {
		log_warn("process %d of user %u rang, and is neither root nor this process's user: not answered", peer.pid, peer.uid);
		return -EPERM;
	}
	return steal_fd(&sock);
}

void bell_report(uint64_t nonce, const void *bytes, size_t n)
{
	int saved_errno = errno;
	cleanup_fd int sock = bell_answer(nonce);

	if (sock >= 0)
		io_send(sock, bytes, n, -1);
	errno = saved_errno;
}
