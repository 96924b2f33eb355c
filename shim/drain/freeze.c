/* SPDX-License-Identifier: MIT */
/* Freezing: a connection between two requests is held there, and out of its epoll set. */
#define _GNU_SOURCE
#include "drain/freeze.h"

#include "drain/carry.h"
#include "drain/drain.h"
#include "process/birth.h"
#include "process/guard.h"
#include "base/full.h"
#include "base/io.h"
#include "base/next.h"
#include "fd/tagging.h"
#include "process/task.h"

#include <errno.h>
#include <sys/socket.h>

enum {
	LISTENERS = 256,  /* registrations of listeners in epoll sets */
	OWED_EVERY_MS = 20,
};

#define BEHIND_NS INT64_C(500000) /* so long after an answer a FIN is "right after" it: half a ms */

struct registration {
	_Atomic int fd; /* -1: free */
	/*
	 * removed from its epoll set for a drain. With EPOLLONESHOT it stays in the set: it may be disarmed, and we
	 * must not arm it
	 */
	bool out;
	bool armed;     /* the program armed it during the drain */
	bool moving;    /* removed from its set while a door replaces the listener, or the listener its door */
	uint64_t ino;   /* the program may close a listener and reuse its number in the same set */
	int epfd;
	struct epoll_event event;
};

/* Empty in a forked child: it shares its parent's epoll sets, and must not change them. */
static cpr_touched struct own {
	int count;
	struct registration all[LISTENERS];
} *own;

static int freeze_count(void)
{
	return own ? own->count : 0;
}

bool freeze_knows_listeners(void)
{
	for (int i = 0; i < freeze_count(); i++)
		if (own->all[i].fd >= 0)
			return true;
	return false;
}

/*
 * Is a thread inside a read on the connection? It began before the freeze, and may have read bytes that we have not
 * seen. `me`: the caller's own call, which does not count, since it has not read yet. NULL: every thread counts.
 */
bool freeze_is_being_read(int fd, const struct conn *c, const struct active_call *me)
{
	for (int i = 0; i < active_calls_top(); i++) {
		int read = atomic_load_explicit(&active_calls_at(i)->fd, memory_order_acquire);

		if ((read == fd || (c->dups && conn_at(read) == c)) && active_calls_at(i)->tid &&
		    active_calls_at(i) != me)
			return true;
	}
	return false;
}

/*
 * May a connection that we cannot carry be closed now? Closing every idle one at once lost one request in a hundred
 * connections: the client's next request can cross our FIN. So the FIN follows right after an answer, before the client
 * can have read it and asked again. If no answer comes, it waits for a longer silence. A client that asks without a
 * pause gets one more answer, and the FIN after that. A server's first bytes (a greeting, a handshake) are no answer:
 * the client's request follows them.
 */
static bool may_end(int fd, const struct conn *c, int64_t now)
{
	int64_t silence = conn_silence_ns(c);
	bool next_comes = http_kind(&c->http) != HTTP_OVER && !(c->flags & CONN_EOF_READ) && !conn_peer_ended(fd);
	bool answered = c->answers >= CONN_CONVERSATION && now - c->wrote_at < BEHIND_NS;

	if (silence) /* a stream: we cannot tell where an answer ends */
		return !conn_has_unread(fd) && conn_rested(c, fd, now, silence);
	return !conn_has_unread(fd) &&
	       (!next_comes || answered ||
		conn_rested(c, fd, now, c->answers < CONN_CONVERSATION ? CONN_STRANGER_NS : CONN_RESTED_NS));
}

/* The kernel had no room for a registration. Without it the server would not serve, so the task tries again. */
static _Atomic bool owed;

static void owes(void)
{
	if (!atomic_exchange(&owed, true))
		task_wake();
}

static bool is_for_want_of_room(void)
{
	return errno == ENOMEM || errno == ENOSPC;
}

/* With EPOLLONESHOT, fd may still be in the set. */
static bool put_back(int epfd, int fd, struct epoll_event event)
{
	return !next_epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) ||
	       (errno == EEXIST && !next_epoll_ctl(epfd, EPOLL_CTL_MOD, fd, &event));
}

static void put_conn_back(struct conn *c)
{
	if (put_back(c->epfd, c->polled, (struct epoll_event){.events = c->events, .data.u64 = c->data}) ||
	    !is_for_want_of_room())
		return;
	conn_set(c, CONN_OWED);
	owes();
}

/*
 * If the client has closed, the task thaws the connection (pass_all). That may happen between our flag and our removal
 * from the epoll set. Then the task put it back before it was out, and the program would never see the end.
 */
static bool was_let_go(struct conn *c)
{
	if (c->flags & CONN_FROZEN)
		return false;
	if (c->flags & CONN_POLLED && !(c->events & EPOLLONESHOT))
		put_conn_back(c);
	return true;
}

bool freeze_conn(int fd, struct conn *c, enum conn_view view, const struct active_call *me)
{
	bool carried;
	int64_t now = io_now();

	if (c->flags & CONN_EXEMPT)
		return false;
	carried = carry_fate(c, fd, view == CONN_AT_BOUNDARY) == FATE_CARRY;
	if (!carried && atomic_load(&drain_passes))
		return false;
	if (conn_set(c, CONN_FROZEN) & CONN_FROZEN)
		return true;
	/* after the flag is set: from then on no thread begins to read */
	if (freeze_is_being_read(fd, c, me) || (view != CONN_QUIET && !conn_may_stop(c, fd, now)) ||
	    (!carried && !may_end(fd, c, now))) {
		conn_clear(c, CONN_FROZEN);
		return false;
	}
	/* `carried` was decided before: a drain that has ended since may change it */
	if (!carried && atomic_load(&drain_active) && !next_shutdown(fd, SHUT_WR))
		conn_set(c, CONN_FIN_SENT);
	/*
	 * Removed, not set to "no events": epoll reports EPOLLHUP even if it is not requested, and the loop would
	 * spin. With EPOLLONESHOT it is reported once at most, so it stays.
	 */
	if (c->flags & CONN_POLLED && !(c->events & EPOLLONESHOT) &&
	    next_epoll_ctl(c->epfd, EPOLL_CTL_DEL, c->polled, NULL))
		conn_clear(c, CONN_POLLED); /* the set is closed, or the descriptor is not in it any more */
	if (was_let_go(c))
		return false;
	if (me && atomic_load(&drain_passes))
		task_wake(); /* the client waits until the connection is passed */
	if (atomic_load(&drain_active))
		return true;
	freeze_undo(c); /* the drain was called off meanwhile, and its thaw may have missed this connection */
	return false;
}

void freeze_undo(struct conn *c)
{
	unsigned flags = conn_clear(c, CONN_FROZEN | CONN_REARM);

	if (flags & CONN_FROZEN && flags & CONN_POLLED && (!(c->events & EPOLLONESHOT) || flags & CONN_REARM))
		put_conn_back(c);
}

/* Is it still a listener? Anything else stays in its set: a request under way may need it. */
static bool freeze_is_listener(int fd, uint64_t ino)
{
	const struct entry *e = tagging_knows(fd) ? table_by_fd(cpr__table, fd) : NULL;
	struct object object;

	return e && e->kind == ENTRY_STREAM && !object_of(fd, &object) && (!ino || object.ino == ino);
}

/* Can a gate close it? That is a listener, a datagram socket or a FIFO. */
static bool is_gated(int fd, uint64_t ino)
{
	const struct entry *e = tagging_knows(fd) ? table_by_fd(cpr__table, fd) : NULL;
	struct object object;

	return e && (e->kind == ENTRY_STREAM || e->kind == ENTRY_DATAGRAM || e->kind == ENTRY_FIFO) &&
	       !object_of(fd, &object) && (!ino || object.ino == ino);
}

void freeze_listeners(bool on)
{
	for (int i = 0; i < freeze_count(); i++) {
		struct registration *r = &own->all[i];

		if (r->fd < 0 || !freeze_is_listener(r->fd, r->ino)) {
			r->out = false;
			continue;
		}
		if (on)
			r->out = r->event.events & EPOLLONESHOT || !next_epoll_ctl(r->epfd, EPOLL_CTL_DEL, r->fd, NULL);
		else if (r->out && (!(r->event.events & EPOLLONESHOT) || r->armed))
			r->out = !put_back(r->epfd, r->fd, r->event) && is_for_want_of_room();
		else
			r->out = false;
		if (!on && r->out)
			owes(); /* `armed` stays as it is */
		else
			r->armed = false;
	}
}

/*
 * Takes the registrations out before the descriptors are replaced. freeze_move_in puts them back. An EPOLLONESHOT one
 * comes back armed, since we do not know its state: one event too many only gives EAGAIN.
 */
void freeze_move_out(void)
{
	for (int i = 0; i < freeze_count(); i++) {
		struct registration *r = &own->all[i];

		r->moving = r->fd >= 0 && !r->out && is_gated(r->fd, r->ino) &&
			    (!next_epoll_ctl(r->epfd, EPOLL_CTL_DEL, r->fd, NULL) || r->moving);
	}
}

void freeze_unregister(int fd)
{
	struct guard_hold hold;

	if (!own || !guard_lock(&hold))
		return;
	for (int i = 0; i < freeze_count(); i++)
		if (own->all[i].fd == fd) {
			next_epoll_ctl(own->all[i].epfd, EPOLL_CTL_DEL, fd, NULL);
			own->all[i].fd = -1;
		}
	guard_unlock(&hold);
}

_Atomic unsigned freeze_moves;

void freeze_register_anew(int epfd, int fd, struct epoll_event event)
{
	int saved_errno = errno;

	put_back(epfd, fd, event);
	errno = saved_errno;
}

/* A registration that could not be put back keeps `moving`, and is tried again. */
static void move_in(void)
{
	for (int i = 0; i < freeze_count(); i++) {
		struct registration *r = &own->all[i];
		struct object object;

		if (!r->moving)
			continue;
		if (!object_of(r->fd, &object))
			r->ino = object.ino;
		r->moving = r->fd >= 0 && !put_back(r->epfd, r->fd, r->event) && is_for_want_of_room();
		if (r->moving)
			owes();
	}
}

void freeze_move_in(void)
{
	atomic_fetch_add(&freeze_moves, 1);
	move_in();
}

/* During a drain, listeners stay out of their sets: the end of the drain puts them back. */
static void put_owed_back(void)
{
	move_in();
	if (!atomic_load(&drain_active))
		freeze_listeners(false);
	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);

		if (c && conn_clear(c, CONN_OWED) & CONN_OWED && c->flags & CONN_POLLED && !(c->flags & CONN_FROZEN))
			put_conn_back(c);
	}
}

static int look_at_owed(void)
{
	struct guard_hold hold;

	if (likely(!atomic_load(&owed)))
		return 0;
	if (!guard_lock(&hold))
		return OWED_EVERY_MS;
	atomic_store(&owed, false);
	put_owed_back();
	guard_unlock(&hold);
	return atomic_load(&owed) ? OWED_EVERY_MS : 0;
}

/* In a forked child: the parent puts back what is in a shared set. The flag must be clear, so that the child's own
 * failure wakes the child's task. */
static void freeze_forget(void)
{
	atomic_store(&owed, false);
}

void freeze_init(void)
{
	own = birth_cleared(sizeof(*own));
	task_adds(look_at_owed);
	birth_when_born(freeze_forget);
}

/* Records the registration. True: a drain is active, and the listener stays out of the set. */
static bool note_registration(int epfd, int op, int fd, const struct epoll_event *event)
{
	struct registration *found = NULL, *free = NULL;
	struct guard_hold hold;
	struct object object;
	bool out;

	if (!own || object_of(fd, &object) || !guard_lock(&hold))
		return false;
	out = atomic_load(&drain_active) && freeze_is_listener(fd, 0);
	for (int i = 0; i < freeze_count(); i++) {
		if (own->all[i].fd == fd && own->all[i].epfd == epfd)
			found = &own->all[i];
		else if (own->all[i].fd < 0 || !is_gated(own->all[i].fd, own->all[i].ino))
			free = &own->all[i];
	}
	if (op == EPOLL_CTL_DEL) {
		out = found && found->out;
		if (out)
			next_epoll_ctl(epfd, op, fd, NULL);
		if (found)
			found->fd = -1;
	} else {
		if (!found)
			found = free ? free : own->count < LISTENERS ? &own->all[own->count++] : NULL;
		if (!found)
			full_note(FULL_REGISTRATIONS, LISTENERS);
		if (found) {
			found->epfd = epfd;
			found->ino = object.ino;
			found->out = out;
			found->armed = out;
			found->event = *event;
			found->fd = fd;
		}
		out = out && found;
	}
	guard_unlock(&hold);
	return out;
}

/* Is the connection frozen by this process's drain? A forked child inherits the flag of its parent's drain. */
static bool is_frozen_here(const struct conn *c)
{
	return unlikely(c->flags & CONN_FROZEN) && drain_is_ours() && c->flags & CONN_FROZEN;
}

bool freeze_epoll(int epfd, int op, int fd, const struct epoll_event *event)
{
	struct conn *c = conn_at(fd);

	if (likely(!c)) {
		if (unlikely(tagging_knows(fd)) && (event || op == EPOLL_CTL_DEL) && is_gated(fd, 0))
			return note_registration(epfd, op, fd, event);
		return false;
	}
	if (op == EPOLL_CTL_DEL && c->epfd == epfd)
		conn_clear(c, CONN_POLLED | CONN_REARM);
	if (!event || op == EPOLL_CTL_DEL)
		return is_frozen_here(c) && (next_epoll_ctl(epfd, op, fd, NULL), true); /* may fail: it may be out */
	if (c->flags & CONN_POLLED && (c->epfd != epfd || c->polled != fd))
		conn_set(c, CONN_UNTRACKABLE);
	c->epfd = epfd;
	c->polled = fd;
	c->events = event->events;
	c->data = event->data.u64;
	conn_set(c, CONN_POLLED);
	if (likely(!is_frozen_here(c)))
		return false;
	/* set again: the thread that froze it may have found it not in the set, and cleared the flag */
	conn_set(c, CONN_POLLED | CONN_REARM);
	return true;
}
