/* SPDX-License-Identifier: MIT */
/* The timer that rings, and the socket back to who rang. */
#define _GNU_SOURCE
#include "bell.h"

#include "attr.h"
#include "guard.h"
#include "io.h"
#include "log.h"
#include "next.h"
#include "words.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { HIGH = 700 }; /* above the numbers that a small program uses; below a soft limit of 1,024 */

/*
 * By system call: libc's timer_create may call malloc, and we may be in a handler. Timers are not inherited by a child, and end at exec, but a
 * tick that is queued by then goes with us: leaving keeps the doorbell blocked across exec, so that it cannot kill who has no handler yet.
 */
void bell_tick_in(int ms)
{
	static int timer, timer_pid;
	static int64_t due;
	int64_t now = io_now();
	struct itimerspec when = {.it_value = {ms / 1000, ms % 1000 * 1000000L}};
	int kept = errno, me = getpid();

	if (timer_pid != me) {
		struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = cpr__settings.signal};

		if (next_sys(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer)) {
			log_warn("no timer (%m): orphans stay open, workers of the last generation too");
			errno = kept;
			return;
		}
		timer_pid = me;
		due = 0;
	}
	if (due > now && due <= now + ms * INT64_C(1000000)) { /* who ticks looks at everything: the earlier one will do */
		errno = kept;
		return;
	}
	due = now + ms * INT64_C(1000000);
	next_sys(SYS_timer_settime, timer, 0, &when, NULL);
	errno = kept;
}

int bell_answer(uint64_t nonce)
{
	struct timeval patience = {WORDS_TIMEOUT_MS / 1000, WORDS_TIMEOUT_MS % 1000 * 1000};
	struct sockaddr_un addr;
	socklen_t len = words_address(nonce, &addr), peer_len;
	cleanup_fd int sock = next_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct ucred peer;

	if (sock < 0)
		return -errno;
	sock = io_move_up(sock, HIGH);
	if (next_setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
	    next_setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) || next_connect(sock, (struct sockaddr *)&addr, len))
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
	int kept = errno;
	cleanup_fd int sock = bell_answer(nonce);

	if (sock >= 0)
		io_send(sock, bytes, n, -1);
	errno = kept;
}
