/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing. On a connection the bytes are counted, and held back during a drain; elsewhere a wrapper
 * costs one lookup.
 */
#define _GNU_SOURCE
#include "deliver/accepted.h"
#include "deliver/queue.h"
#include "process/doorbell.h"
#include "restart/arrive.h"
#include "drain/drain.h"
#include "base/io.h"
#include "base/next.h"
#include "base/readable.h"
#include "process/sandbox.h"
#include "drain/scm_send.h"
#include "drain/scm_recv.h"
#include "fd/tagging.h"
#include "wrap/wrap.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

static int64_t written_now(void)
{
	struct timespec now;

	/* one clock with io_now's, some ms behind it, at a fourth of the price */
	clock_gettime(unlikely(drain_active) ? CLOCK_MONOTONIC : CLOCK_MONOTONIC_COARSE, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

bool cpr__timed_out(int fd, int option, int64_t *since)
{
	struct timeval patience = {0};
	socklen_t len = sizeof(patience);
	int64_t now = io_now();

	if (!*since) {
		*since = now;
		return false;
	}
	if (getsockopt(fd, SOL_SOCKET, option, &patience, &len) || (!patience.tv_sec && !patience.tv_usec) ||
	    now - *since < patience.tv_sec * INT64_C(1000000000) + patience.tv_usec * 1000)
		return false;
	errno = EAGAIN;
	return true;
}

/* ---- reading ---- */

/* Calls that take nothing of the stream: a look, an error's record, the byte beside it. */
enum { ASIDE = MSG_PEEK | MSG_ERRQUEUE | MSG_OOB };

static void took(struct conn *c, ssize_t r, const void *bytes, int flags)
{
	if (r >= 0 && flags & ASIDE)
		return;
	if (r > 0)
		/* MSG_TRUNC drops them, and leaves the buffer alone */
		conn_read(c, flags & MSG_TRUNC ? NULL : bytes, (uint64_t)r);
	else if (r == 0)
		atomic_fetch_or_explicit(&c->flags, CONN_EOF_READ, memory_order_relaxed);
	else if (errno == EAGAIN)
		atomic_fetch_or_explicit(&c->flags, CONN_ASKED, memory_order_relaxed);
}

static void took_iov(struct conn *c, ssize_t r, const struct iovec *iov, size_t n, int flags)
{
	size_t room = 0;

	if (r < 0 || flags & (ASIDE | MSG_TRUNC)) { /* iov may be nothing that could be read: the call has failed */
		took(c, r, NULL, flags);
		return;
	}
	for (size_t i = 0; r == 0 && i < n; i++)
		room += iov[i].iov_len;
	if (r == 0 && room)
		took(c, 0, NULL, flags);
	for (size_t i = 0; i < n && r > 0; i++) {
		size_t part = iov[i].iov_len < (size_t)r ? iov[i].iov_len : (size_t)r;

		conn_read(c, iov[i].iov_base, part);
		r -= (ssize_t)part;
	}
}

/*
 * A read on a connection: makes `call`, and `note` with its result r_, unless the connection is frozen. After a
 * ring that cut the call short it is made again, and finds the drain.
 */
#define READ(fd, flags, size, call, note)                                                                              \
	({                                                                                                             \
		struct conn *c_ = conn_at(fd);                                                                         \
		__typeof__(call) r_;                                                                                   \
		unsigned rings_;                                                                                       \
		int64_t since_ = 0;                                                                                    \
		if (likely(!c_)) {                                                                                     \
			if (unlikely(generation_is_settling))                                                          \
				arrive_receiving(fd);                                                                  \
			do {                                                                                           \
				rings_ = doorbell_rings;                                                               \
				r_ = (call);                                                                           \
			} while (doorbell_only_rang(r_, rings_) && !cpr__timed_out(fd, SO_RCVTIMEO, &since_));         \
		} else {                                                                                               \
			do {                                                                                           \
				int frozen_ = drain_enter(fd, c_, (flags)&MSG_DONTWAIT);                               \
				if (unlikely(frozen_)) {                                                               \
					errno = -frozen_;                                                              \
					r_ = -1;                                                                       \
					break;                                                                         \
				}                                                                                      \
				rings_ = doorbell_rings;                                                               \
				r_ = (call);                                                                           \
				if ((size) > 0)                                                                        \
					note;                                                                          \
				drain_exit();                                                                          \
			} while (doorbell_only_rang(r_, rings_) && !cpr__timed_out(fd, SO_RCVTIMEO, &since_));         \
		}                                                                                                      \
		r_;                                                                                                    \
	})

CPR_EXPORT ssize_t read(int fd, void *bytes, size_t n)
{
	return READ(fd, 0, n, next_read(fd, bytes, n), took(c_, r_, bytes, 0));
}

CPR_EXPORT ssize_t __read(int fd, void *bytes, size_t n)
{
	return READ(fd, 0, n, next___read(fd, bytes, n), took(c_, r_, bytes, 0));
}

CPR_EXPORT ssize_t __read_chk(int fd, void *bytes, size_t n, size_t size)
{
	return READ(fd, 0, n, next___read_chk(fd, bytes, n, size), took(c_, r_, bytes, 0));
}

CPR_EXPORT ssize_t readv(int fd, const struct iovec *iov, int n)
{
	return READ(fd, 0, n, next_readv(fd, iov, n), took_iov(c_, r_, iov, (size_t)n, 0));
}

CPR_EXPORT ssize_t preadv2(int fd, const struct iovec *iov, int n, off_t at, int flags)
{
	return READ(fd, 0, n, next_preadv2(fd, iov, n, at, flags), took_iov(c_, r_, iov, (size_t)n, 0));
}

CPR_EXPORT ssize_t recv(int fd, void *bytes, size_t n, int flags)
{
	return READ(fd, flags, n, next_recv(fd, bytes, n, flags), took(c_, r_, bytes, flags));
}

CPR_EXPORT ssize_t __recv_chk(int fd, void *bytes, size_t n, size_t size, int flags)
{
	return READ(fd, flags, n, next___recv_chk(fd, bytes, n, size, flags), took(c_, r_, bytes, flags));
}

CPR_EXPORT ssize_t recvfrom(int fd, void *bytes, size_t n, int flags, struct sockaddr *addr, socklen_t *len)
{
	return READ(fd, flags, n, next_recvfrom(fd, bytes, n, flags, addr, len), took(c_, r_, bytes, flags));
}

CPR_EXPORT ssize_t __recvfrom_chk(int fd, void *bytes, size_t n, size_t size, int flags, struct sockaddr *addr,
				  socklen_t *len)
{
	return READ(fd, flags, n, next___recvfrom_chk(fd, bytes, n, size, flags, addr, len),
		    took(c_, r_, bytes, flags));
}

static __attribute__((noinline)) void took_rights(const struct msghdr *message)
{
	for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR((struct msghdr *)message, head)) {
		if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS ||
		    head->cmsg_len < CMSG_LEN(sizeof(int)))
			continue;
		for (size_t at = 0; at + sizeof(int) <= head->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
			int fd;

			memcpy(&fd, CMSG_DATA(head) + at, sizeof(fd));
			scm_recv_note(fd);
		}
	}
}

/* In one piece with the call: a drain must not take this process for done between the two. */
static inline void heard(ssize_t r, const struct msghdr *message)
{
	if (likely(r < 0 || !message->msg_control || !message->msg_controllen) || sandboxed())
		return;
	drain_note_received();
	took_rights(message);
}

static void took_message(struct conn *c, ssize_t r, const struct msghdr *message, int flags)
{
	if (r < 0)
		took(c, r, NULL, flags);
	else
		took_iov(c, r, message->msg_iov, message->msg_iovlen, flags);
}

CPR_EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	bool told = false;
	ssize_t r;

	drain_begin_receiving();
	r = READ(fd, flags, 1, next_recvmsg(fd, message, flags),
		 (took_message(c_, r_, message, flags), heard(r_, message), told = true));
	if (!told)
		heard(r, message);
	drain_exit();
	return r;
}

static void took_messages(struct conn *c, int r, const struct mmsghdr *messages, int flags)
{
	if (r < 0)
		took(c, r, NULL, flags);
	for (int i = 0; i < r; i++)
		took_iov(c, messages[i].msg_len, messages[i].msg_hdr.msg_iov, messages[i].msg_hdr.msg_iovlen, flags);
}

CPR_EXPORT int recvmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags, struct timespec *timeout)
{
	int r;

	drain_begin_receiving();
	r = READ(fd, flags, n, next_recvmmsg(fd, messages, n, flags, timeout), took_messages(c_, r_, messages, flags));
	drain_note_received();
	for (int i = 0; i < r; i++)
		heard(0, &messages[i].msg_hdr);
	drain_exit();
	return r;
}

/* ---- writing ---- */

/* A write is over: `r` is what it returned, after the bytes that it took were told. */
static void wrote_call(int fd, struct conn *c, ssize_t r, size_t asked)
{
	int saved_errno = errno;

	if (r > 0)
		conn_wrote(c, (size_t)r == asked, written_now());
	else if (r < 0 && errno == EAGAIN)
		atomic_fetch_or_explicit(&c->flags, CONN_PARTIAL_WRITE, memory_order_relaxed);
	if (unlikely(drain_active))
		drain_wrote(fd, c);
	if (unlikely(deliver_waiting) && r > 0)
		deliver_wrote(fd);
	errno = saved_errno;
}

static void wrote(int fd, struct conn *c, ssize_t r, const void *bytes, size_t n)
{
	if (r > 0)
		conn_sent(c, bytes, (uint64_t)r);
	wrote_call(fd, c, r, n);
}

static void wrote_iov(int fd, struct conn *c, ssize_t r, const struct iovec *iov, size_t n)
{
	ssize_t left = r;
	size_t asked = 0;

	if (r < 0) { /* iov may be nothing that could be read: the call has failed */
		wrote_call(fd, c, r, 0);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		size_t part = left <= 0 ? 0 : iov[i].iov_len < (size_t)left ? iov[i].iov_len : (size_t)left;

		if (part)
			conn_sent(c, iov[i].iov_base, part);
		left -= (ssize_t)part;
		asked += iov[i].iov_len;
	}
	wrote_call(fd, c, r, asked);
}

/*
 * A write on a connection. A drain holds no write back, and a ring ends none: with SO_SNDTIMEO the kernel says
 * EINTR whatever SA_RESTART says.
 */
#define WRITE(fd, call, note)                                                                                          \
	({                                                                                                             \
		unsigned rings_;                                                                                       \
		int64_t since_ = 0;                                                                                    \
		__typeof__(call) r_;                                                                                   \
		struct conn *c_ = conn_at(fd);                                                                         \
		if (unlikely(c_ != NULL) && unlikely(c_->flags & CONN_FIN_SENT)) {                                     \
			errno = EPIPE; /* without the signal: we ended it */                                 \
			r_ = -1;                                                                                       \
		} else {                                                                                               \
			do {                                                                                           \
				rings_ = doorbell_rings;                                                               \
				r_ = (call);                                                                           \
			} while (doorbell_only_rang(r_, rings_) && !cpr__timed_out(fd, SO_SNDTIMEO, &since_));         \
			c_ = conn_at(fd);                                                                              \
			if (unlikely(c_ != NULL))                                                                      \
				note;                                                                                  \
		}                                                                                                      \
		r_;                                                                                                    \
	})

CPR_EXPORT ssize_t write(int fd, const void *bytes, size_t n)
{
	return WRITE(fd, next_write(fd, bytes, n), wrote(fd, c_, r_, bytes, n));
}

CPR_EXPORT ssize_t __write(int fd, const void *bytes, size_t n)
{
	return WRITE(fd, next___write(fd, bytes, n), wrote(fd, c_, r_, bytes, n));
}

CPR_EXPORT ssize_t writev(int fd, const struct iovec *iov, int n)
{
	return WRITE(fd, next_writev(fd, iov, n), wrote_iov(fd, c_, r_, iov, (size_t)n));
}

CPR_EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t at, int flags)
{
	return WRITE(fd, next_pwritev2(fd, iov, n, at, flags), wrote_iov(fd, c_, r_, iov, (size_t)n));
}

CPR_EXPORT ssize_t send(int fd, const void *bytes, size_t n, int flags)
{
	return WRITE(fd, next_send(fd, bytes, n, flags), wrote(fd, c_, r_, bytes, n));
}

CPR_EXPORT ssize_t __send(int fd, const void *bytes, size_t n, int flags)
{
	return WRITE(fd, next___send(fd, bytes, n, flags), wrote(fd, c_, r_, bytes, n));
}

CPR_EXPORT ssize_t sendto(int fd, const void *bytes, size_t n, int flags, const struct sockaddr *addr, socklen_t len)
{
	return WRITE(fd, next_sendto(fd, bytes, n, flags, addr, len), wrote(fd, c_, r_, bytes, n));
}

static void wrote_message(int fd, struct conn *c, ssize_t r, const struct msghdr *message)
{
	if (r < 0)
		wrote_call(fd, c, r, 0);
	else
		wrote_iov(fd, c, r, message->msg_iov, message->msg_iovlen);
}

enum { CONTROL_MAX = 1 << 16 }; /* SCM_MAX_FD descriptors take 1 KiB */

/* Between two tries it may find that a drain has begun. */
static __attribute__((noinline)) ssize_t give_away(int fd, const struct msghdr *message, int flags)
{
	int64_t since = 0;
	unsigned rings;
	ssize_t r;

	do {
		struct conn *c = conn_at(fd);
		int held = c && c->flags & CONN_FIN_SENT ? -EPIPE : scm_send_begin(fd, message, flags);

		if (held) {
			errno = -held;
			return -1;
		}
		rings = doorbell_rings;
		r = next_sendmsg(fd, message, flags);
		if (c)
			wrote_message(fd, c, r, message);
		scm_send_end(message, r >= 0);
	} while (doorbell_only_rang(r, rings) && !cpr__timed_out(fd, SO_SNDTIMEO, &since));
	return r;
}

/*
 * This is read before the kernel reads it: a connection is marked before it is sent (drain/scm_send.c). A process
 * without connections does not look.
 */
static inline bool has_connection(const struct msghdr *message)
{
	return unlikely(conn_any) && !sandboxed() && readable(message, sizeof(*message)) &&
	       unlikely(message->msg_control && message->msg_controllen) && message->msg_controllen <= CONTROL_MAX &&
	       readable(message->msg_control, message->msg_controllen) && scm_send_has_connection(message);
}

CPR_EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	if (has_connection(message))
		return give_away(fd, message, flags);
	return WRITE(fd, next_sendmsg(fd, message, flags), wrote_message(fd, c_, r_, message));
}

static void wrote_messages(int fd, struct conn *c, int r, const struct mmsghdr *messages)
{
	if (r < 0)
		wrote(fd, c, r, NULL, 0);
	for (int i = 0; i < r; i++)
		wrote_iov(fd, c, messages[i].msg_len, messages[i].msg_hdr.msg_iov, messages[i].msg_hdr.msg_iovlen);
}

static int send_each(int fd, struct mmsghdr *messages, int n, int flags)
{
	for (int i = 0; i < n; i++) {
		ssize_t r = sendmsg(fd, &messages[i].msg_hdr, flags);

		if (r < 0)
			return i ? i : -1;
		messages[i].msg_len = (unsigned)r;
	}
	return n;
}

CPR_EXPORT int sendmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags)
{
	for (unsigned i = 0; unlikely(conn_any) && i < n && i < IOV_MAX && readable(&messages[i], sizeof(*messages));
	     i++) /* the kernel takes no more at a time */
		if (has_connection(&messages[i].msg_hdr))
			return send_each(fd, messages, (int)(n < IOV_MAX ? n : IOV_MAX), flags);
	return WRITE(fd, next_sendmmsg(fd, messages, n, flags), wrote_messages(fd, c_, r_, messages));
}

/*
 * A short count is the end of the file as often as a full socket. The framing knows which; an unframed connection
 * counts as answered only after a pause.
 */
CPR_EXPORT ssize_t sendfile(int to, int from, off_t *at, size_t n)
{
	return WRITE(to, next_sendfile(to, from, at, n), wrote(to, c_, r_, NULL, (size_t)(r_ > 0 ? r_ : 0)));
}

CPR_EXPORT ssize_t sendfile64(int to, int from, off64_t *at, size_t n)
{
	return WRITE(to, next_sendfile64(to, from, at, n), wrote(to, c_, r_, NULL, (size_t)(r_ > 0 ? r_ : 0)));
}

static ssize_t splice_from(int from, off64_t *from_at, int to, off64_t *to_at, size_t n, unsigned flags)
{
	return READ(from, flags & SPLICE_F_NONBLOCK ? MSG_DONTWAIT : 0, n,
		    next_splice(from, from_at, to, to_at, n, flags), took(c_, r_, NULL, 0));
}

CPR_EXPORT ssize_t splice(int from, off64_t *from_at, int to, off64_t *to_at, size_t n, unsigned flags)
{
	return WRITE(to, splice_from(from, from_at, to, to_at, n, flags),
		     wrote(to, c_, r_, NULL, (size_t)(r_ > 0 ? r_ : 0)));
}

CPR_EXPORT int shutdown(int fd, int how)
{
	int r = next_shutdown(fd, how);
	struct conn *c = conn_at(fd);

	if (unlikely(c != NULL) && !r && how != SHUT_RD)
		atomic_fetch_or_explicit(&c->flags, CONN_EOF_READ, memory_order_relaxed);
	return r;
}
