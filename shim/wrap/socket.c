/* SPDX-License-Identifier: MIT */
/* Sockets: claimed at bind(), tagged when bound, kept when listening. */
#define _GNU_SOURCE
#include "process/guard.h"
#include "restart/arrive.h"
#include "restart/backlog.h"
#include "restart/pass.h"
#include "fd/claim.h"
#include "deliver/accepted.h"
#include "deliver/queue.h"
#include "process/doorbell.h"
#include "drain/drain.h"
#include "fd/gate.h"
#include "fd/inherited.h"
#include "process/light.h"
#include "process/share.h"
#include "base/next.h"
#include "base/readable.h"
#include "fd/pending.h"
#include "fd/replay.h"
#include "wrap/wrap.h"

#include <errno.h>

/* The kernel gave out these numbers: entries for them in the table are outdated. */
static int fresh(int fd)
{
	if (fd >= 0)
		tagging_fresh(fd);
	return fd;
}

CPR_EXPORT int socket(int domain, int type, int protocol)
{
	return fresh(next_socket(domain, type, protocol));
}

CPR_EXPORT int socketpair(int domain, int type, int protocol, int pair[2])
{
	int r = next_socketpair(domain, type, protocol, pair);

	if (!r) {
		fresh(pair[0]);
		fresh(pair[1]);
	}
	return r;
}

/* May this address be looked at? Only with orphans is there a reason to. */
static bool socket_may_claim(const struct sockaddr *addr, socklen_t len)
{
	return claim_may() && addr && len <= sizeof(struct sockaddr_storage) && readable(addr, len);
}

CPR_EXPORT int bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	int r = 0;

	begin_if_light();
	if (tagging_hidden(fd)) {
		errno = EBADF;
		return -1;
	}
	guard_enter();
	if (!socket_may_claim(addr, len) || !claim_bind(fd, addr, len)) {
		r = next_bind(fd, addr, len);
		if (r && errno == EADDRINUSE && claim_release_port(fd, addr, len))
			r = next_bind(fd, addr, len);
		if (!r)
			tagging_bound(fd, addr, len);
	}
	guard_exit();
	return r;
}

CPR_EXPORT int listen(int fd, int backlog)
{
	int r;

	begin_if_light();
	guard_enter();
	gate_listens(fd);
	r = next_listen(fd, backlog_for(fd, backlog));
	if (!r)
		tagging_listening(fd, backlog);
	guard_exit();
	return r;
}

/*
 * Does the program connect to find out whether one of it runs already? The answer is no: the listener there is an
 * orphan, which it will claim itself.
 */
static bool refuses(int fd, const struct sockaddr *addr, socklen_t len)
{
	if (likely(!socket_may_claim(addr, len) || !claim_guards_address(fd, addr, len)))
		return false;
	errno = ECONNREFUSED;
	return true;
}

static void connected(int fd, const struct sockaddr *addr, int r)
{
	if (r && errno != EINPROGRESS)
		return;
	tagging_socket_connected(fd, addr);
	if (unlikely(tagging_orphans()))
		replay_forget_one(fd);
}

static bool goes_on_without(int fd, int64_t *since)
{
	bool late = cpr__timed_out(fd, SO_SNDTIMEO, since);

	if (late)
		errno = EINPROGRESS; /* as the kernel says it */
	return late;
}

/* With SO_SNDTIMEO it says EINTR after any handler; called again, it waits on for the same connection. */
#define CONNECT(fd, addr, len, next)                                                                                   \
	({                                                                                                             \
		int r_ = -1;                                                                                           \
		unsigned rings_;                                                                                       \
		int64_t since_ = 0;                                                                                    \
		if (!refuses(fd, addr, len)) {                                                                         \
			do {                                                                                           \
				rings_ = doorbell_rings;                                                               \
				r_ = next(fd, addr, len);                                                              \
			} while (doorbell_only_rang(r_, rings_) && !goes_on_without(fd, &since_));                     \
			connected(fd, addr, r_);                                                                       \
		}                                                                                                      \
		r_;                                                                                                    \
	})

CPR_EXPORT int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return CONNECT(fd, addr, len, next_connect);
}

CPR_EXPORT int __connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return CONNECT(fd, addr, len, next___connect);
}

/* In one piece: a restart in the middle of it would find a connection without a record. */
static __attribute__((noinline)) int accepted_amid_knocks(int listener, int *fd, int flags, struct sockaddr *addr,
							  socklen_t *len)
{
	sigset_t before;
	int knock, accepted = *fd;

	guard_block(&before);
	knock = deliver_accepted(listener, fd, flags, addr, len);
	if (*fd != accepted)
		fresh(*fd);
	if (knock >= 0)
		conn_begin(*fd, listener, knock > 0);
	if (!knock)
		share_add_if_counted();
	guard_unblock(&before);
	return knock;
}

/*
 * accept: forgets what stood at the number, and begins a record. During a drain nothing is accepted: the queue
 * waits for the next generation. A knock becomes the connection that was carried; one for which none is left is
 * passed over.
 */
#define ACCEPT(fd, flags, call)                                                                                        \
	({                                                                                                             \
		int r_, knock_ = 0;                                                                                    \
		unsigned rings_;                                                                                       \
		int64_t since_ = 0;                                                                                    \
		if (unlikely(pending_any(fd)))                                                                         \
			pending_resolve(fd); /* what is accepted on it may be carried to it */                         \
		inherited_accepts();                                                                                   \
		if (unlikely(generation_is_settling))                                                                  \
			arrive_waiting(AWAITED_WORK);                                                                  \
		do {                                                                                                   \
			int frozen_ = share_ends(fd) ? -EAGAIN : 0;                                                    \
			if (likely(!frozen_))                                                                          \
				frozen_ = drain_enter(fd, NULL, false);                                                \
			if (unlikely(frozen_)) {                                                                       \
				errno = -frozen_;                                                                      \
				r_ = -1;                                                                               \
				break;                                                                                 \
			}                                                                                              \
			rings_ = doorbell_rings;                                                                       \
			r_ = (call);                                                                                   \
			knock_ = 0; /* of the one before */                                                            \
			if (r_ >= 0) {                                                                                 \
				fresh(r_);                                                                             \
				if (unlikely(deliver_waiting)) {                                                       \
					knock_ = accepted_amid_knocks(fd, &r_, flags, addr, len);                      \
				} else {                                                                               \
					conn_begin(r_, fd, false);                                                     \
					share_add_if_counted();                                                        \
				}                                                                                      \
			}                                                                                              \
			drain_exit();                                                                                  \
		} while (knock_ < 0 || (doorbell_only_rang(r_, rings_) && !cpr__timed_out(fd, SO_RCVTIMEO, &since_))); \
		r_;                                                                                                    \
	})

/*
 * The room that the program has for the address. A knock's accept overwrites it, so it is put back before the next.
 * Without an address the kernel looks at neither.
 */
static socklen_t room_for(const struct sockaddr *addr, const socklen_t *len)
{
	return addr && len && readable(len, sizeof(*len)) ? *len : 0;
}

CPR_EXPORT int accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	socklen_t room = room_for(addr, len);

	return ACCEPT(fd, 0, (knock_ < 0 && room ? *len = room : 0, next_accept(fd, addr, len)));
}

CPR_EXPORT int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	socklen_t room = room_for(addr, len);

	return ACCEPT(fd, flags, (knock_ < 0 && room ? *len = room : 0, next_accept4(fd, addr, len, flags)));
}

CPR_EXPORT int getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	if (unlikely(gate_is_closed) && gate_name(fd, addr, len))
		return 0;
	return next_getsockname(fd, addr, len);
}

CPR_EXPORT int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	int saved_errno = errno, r = next_setsockopt(fd, level, name, value, len);

	if (!r && unlikely(tagging_orphans()))
		replay_note_option(fd, level, name, value, len);
	/* the connection may have been passed on in this moment; of one whose peer has closed, TCP takes it */
	if (unlikely(r) && errno == EOPNOTSUPP && level != SOL_SOCKET && pass_left_end(fd)) {
		errno = saved_errno;
		r = 0;
	}
	return r;
}
