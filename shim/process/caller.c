/* SPDX-License-Identifier: MIT */
/* The socket back to the caller. */
#define _GNU_SOURCE
#include "process/caller.h"

#include "base/attr.h"
#include "base/newfd.h"
#include "base/io.h"
#include "base/log.h"
#include "base/next.h"
#include "base/raw.h"
#include "model/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define TURN_NS INT64_C(1000000000)

enum { REPORT_TRIES = 100 };

/* Does not block: the full backlog of some process would hold up the task, and every other caller with it. */
int caller_connect(uint64_t nonce)
{
	struct sockaddr_un addr;
	socklen_t len = protocol_address(nonce, &addr), peer_len;
	cleanup_fd int sock = newfd_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
	struct ucred peer;

	if (sock < 0)
		return -errno;
	sock = io_move_up(sock, PROTOCOL_HIGH);
	if (raw_connect(sock, (struct sockaddr *)&addr, len))
		return -errno;
	peer_len = sizeof(peer);
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len))
		return -errno;
	if (peer.uid && peer.uid != geteuid()) {
		log_debug("process %d of user %u rang, and is neither root nor this process's user: not answered",
			  peer.pid, peer.uid);
		return -EPERM;
	}
	return steal_fd(&sock);
}

int caller_connect_in_turn(uint64_t nonce)
{
	const struct timespec ms = {0, 1000000};
	int64_t until = io_now() + TURN_NS;
	int sock;

	while ((sock = caller_connect(nonce)) == -EAGAIN && io_now() < until)
		next_sys(SYS_nanosleep, &ms, NULL);
	return sock;
}

void caller_wait_on(int sock)
{
	struct timeval patience = {PROTOCOL_TIMEOUT_MS / 1000, PROTOCOL_TIMEOUT_MS % 1000 * 1000};

	next_setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	next_setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	next_fcntl(sock, F_SETFL, NULL);
}

int caller_pid(int sock)
{
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);

	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) ? 0 : peer.pid;
}

/*
 * May the reason pass? A program that closes all descriptors has closed ours, too. Or the kernel had no memory in this
 * moment. Or the caller's backlog was full.
 */
static bool may_pass(int error)
{
	return error == -EBADF || error == -ENOTSOCK || error == -ENOMEM || error == -ENOBUFS || error == -EINTR ||
	       error == -EPIPE || error == -ECONNRESET;
}

void caller_report(uint64_t nonce, const void *bytes, size_t n)
{
	int saved_errno = errno, tries = REPORT_TRIES, r;

	do { /* it is sent once: a caller that misses it takes the restart for failed */
		cleanup_fd int sock = caller_connect(nonce);

		r = sock < 0 ? sock : io_send(sock, bytes, n, -1);
	} while (may_pass(r) && --tries);
	errno = saved_errno;
}
