/* SPDX-License-Identifier: MIT */
/* Drain: freeze at the boundary, count who is not there, thaw. */
#define _GNU_SOURCE
#include "drain.h"

#include "carry.h"
#include "doorbell.h"
#include "guard.h"
#include "io.h"
#include "log.h"
#include "next.h"
#include "pool.h"
#include "track.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	CONVERSATION = 3, /* after so many answers they are answers */
	CALLERS = 4096,   /* threads that serve connections; what is beyond is served, but may be cut */
	LISTENERS = 256,  /* registrations of listeners in epoll sets */
	WAITERS = 256,    /* epoll sets that are waited on; on others nobody's waiting says anything */
	PROBES = 4,       /* of their places, by who looks for one */
	SLICE_MS = 10,    /* how long poll and select sleep at a time during a drain */
};

#define BEHIND_NS INT64_C(500000) /* what is "right behind an answer": half a ms */

/* Who has not been answered so often may be in the middle of a handshake, in which the other side takes its time to reckon: 250 ms. */
#define STRANGER_NS INT64_C(250000000)

cpr_touched _Atomic bool drain_active;
static _Atomic bool drain_over_here; /* see drain_close */
static _Atomic int parked_word; /* changes when a drain ends */

/* ---- who is inside a call that takes bytes or connections ---- */

struct registration {
	_Atomic int fd; /* -1: free */
	bool out;       /* of its set, for the time of a drain; with EPOLLONESHOT it stays in it: it may be disarmed, and must not be armed by us */
	bool armed;     /* meanwhile, by the program */
	uint64_t ino;   /* a listener may be closed, and its number be another's in the same set */
	int epfd;
	struct epoll_event event;
};

/* A child finds all of it empty: its one thread has another tid than its parent's had, and its parent's epoll sets are shared: nothing is done to them. */
static cpr_touched struct own {
	_Atomic int callers_top; /* no caller is at or above this */
	int registration_count;
	struct caller callers[CALLERS];
	struct registration registrations[LISTENERS];
} *own;

cpr_thread struct caller *drain_self;
cpr_thread int drain_self_tid;
static cpr_thread int homeless; /* the tid for which there was no room */

static bool is_dead(int pid, int tid)
{
	return next_sys(SYS_tgkill, pid, tid, 0) && errno == ESRCH;
}

static struct caller *take_place(int i, int there, int tid)
{
	struct caller *slot = &own->callers[i];
	int top;

	if (!atomic_compare_exchange_strong(&slot->tid, &there, tid))
		return NULL;
	atomic_store(&slot->fd, -1);
	drain_self = slot;
	drain_self_tid = tid;
	for (top = own->callers_top; top <= i && !atomic_compare_exchange_weak(&own->callers_top, &top, i + 1);)
		;
	return slot;
}

/*
 * The place of a thread that is dead, or one at the end. The obvious code asks of each place whether its thread still lives, which costs the thousandth connection of a server
 * with a thread for each a thousand system calls: a few are asked, others the next time.
 */
struct caller *drain_become_caller(void)
{
	static _Atomic unsigned asked;
	int tid = (int)next_sys(SYS_gettid), pid = getpid(), kept = errno;
	struct caller *found = NULL;

	drain_self = NULL;
	if (!own || homeless == tid)
		return NULL;
	for (int tries = 0, top = own->callers_top; top && tries < PROBES && !found; tries++) {
		int i = (int)(atomic_fetch_add(&asked, 1) % (unsigned)top), there = own->callers[i].tid;

		if (!there || there == tid || is_dead(pid, there))
			found = take_place(i, there, tid);
	}
	for (int i = own->callers_top; i < CALLERS && !found; i++)
		found = take_place(i, 0, tid);
	if (!found)
		homeless = tid;
	errno = kept;
	return found;
}

static int callers_top(void)
{
	return own ? own->callers_top : 0;
}

static int registration_count(void)
{
	return own ? own->registration_count : 0;
}

/* ---- freezing ---- */

static void thaw(struct conn *c);
static void forget_waiters(void);

/*
 * Is a thread inside a read on it? It came in before the freeze, and may hold bytes that nobody has noted. `me`: this thread is not asked, since it is about to read, and will not. (The
 * handler must ask it: the read that it has interrupted may have taken a request already.)
 */
static bool is_being_read(int fd, const struct conn *c, const struct caller *me)
{
	for (int i = 0; i < callers_top(); i++) {
		int read = atomic_load_explicit(&own->callers[i].fd, memory_order_acquire);

		if ((read == fd || (c->twins && conn_at(read) == c)) && own->callers[i].tid && &own->callers[i] != me)
			return true;
	}
	return false;
}

/*
 * May what is not carried be ended now? To end whatever is idle at this moment is the obvious thing, and cost a request in every hundred connections: a client that asks every 5 ms
 * is as likely as not to be sending while our FIN is under way. So the end goes right behind an answer, when the client has nothing to send yet, or, where no answer comes, into
 * a longer silence. Who asks without a pause is answered once more, and gets it then. The first words of a server are no answers (a greeting, a handshake): behind those
 * the client's request is sure to come.
 */
static bool may_end(int fd, const struct conn *c, int64_t now)
{
	bool next_comes = http_kind(&c->http) != HTTP_OVER && !(c->flags & CONN_ENDED);

	bool answered = c->answers >= CONVERSATION && now - c->wrote_at < BEHIND_NS;

	return !conn_has_unread(fd) && (!next_comes || answered || conn_rested(c, fd, now, c->answers < CONVERSATION ? STRANGER_NS : CONN_RESTED_NS));
}

/*
 * True: it is frozen, and if it is not carried, ended. If a request has come already, or may be coming, it is served once more: false. `quiet`: not by what we saw, but by the
 * kernel's clocks, it stands at a boundary.
 */
static bool freeze(int fd, struct conn *c, bool quiet, const struct caller *me)
{
	bool carried = carry_may(c, fd);
	int64_t now = io_now();

	if (conn_set(c, CONN_FROZEN) & CONN_FROZEN)
		return true;
	/* looked at after the flag is up: from there on nobody begins to read */
	if (is_being_read(fd, c, me) || (!quiet && !conn_at_boundary(c, now)) || (!carried && !may_end(fd, c, now))) {
		conn_clear(c, CONN_FROZEN);
		return false;
	}
	if (!carried && !next_shutdown(fd, SHUT_WR))
		conn_set(c, CONN_SHUT);
	/* not "no events": EPOLLHUP is told whether it is asked for or not, and a loop would spin at it. Who is told once only (and may have been) does not spin */
	if (c->flags & CONN_POLLED && !(c->events & EPOLLONESHOT) && next_epoll_ctl(c->epfd, EPOLL_CTL_DEL, c->polled, NULL))
		conn_clear(c, CONN_POLLED); /* the set is gone, or it has left it by another way */
	if (atomic_load(&drain_active))
		return true;
	thaw(c); /* the drain was called off meanwhile, and its thaw may have passed here already */
	return false;
}

/* It may be there already: EPOLLONESHOT. */
static bool put_back(int epfd, int fd, struct epoll_event event)
{
	return !next_epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) || (errno == EEXIST && !next_epoll_ctl(epfd, EPOLL_CTL_MOD, fd, &event));
}

static void thaw(struct conn *c)
{
	unsigned flags = conn_clear(c, CONN_FROZEN | CONN_REARM);

	if (flags & CONN_FROZEN && flags & CONN_POLLED && (!(c->events & EPOLLONESHOT) || flags & CONN_REARM))
		put_back(c->epfd, c->polled, (struct epoll_event){.events = c->events, .data.u64 = c->data});
}

/* A listener still? Anything else stays in its set: what is under way may wait for it. */
static bool is_listener(int fd, uint64_t ino)
{
	const struct entry *e = track_knows(fd) ? table_by_fd(cpr__table, fd) : NULL;
	struct object object;

	return e && e->kind == ENTRY_STREAM && !object_of(fd, &object) && (!ino || object.ino == ino);
}

static void freeze_listeners(bool on)
{
	for (int i = 0; i < registration_count(); i++) {
		struct registration *r = &own->registrations[i];

		if (r->fd < 0 || !is_listener(r->fd, r->ino)) {
			r->out = false;
			continue;
		}
		if (on)
			r->out = r->event.events & EPOLLONESHOT || !next_epoll_ctl(r->epfd, EPOLL_CTL_DEL, r->fd, NULL);
		else if (r->out && (!(r->event.events & EPOLLONESHOT) || r->armed))
			r->out = !put_back(r->epfd, r->fd, r->event);
		else
			r->out = false;
		r->armed = false;
	}
}

/* True during a drain: it is noted only, and the listener stays out of the set. */
static bool note_registration(int epfd, int op, int fd, const struct epoll_event *event)
{
	struct registration *found = NULL, *free = NULL;
	struct guard_hold hold;
	struct object object;
	bool out;

	if (!own || object_of(fd, &object) || !guard_lock(&hold))
		return false;
	out = atomic_load(&drain_active);
	for (int i = 0; i < registration_count(); i++) {
		if (own->registrations[i].fd == fd && own->registrations[i].epfd == epfd)
			found = &own->registrations[i];
		else if (own->registrations[i].fd < 0 || !is_listener(own->registrations[i].fd, own->registrations[i].ino))
			free = &own->registrations[i];
	}
	if (op == EPOLL_CTL_DEL) {
		out = found && found->out;
		if (out)
			next_epoll_ctl(epfd, op, fd, NULL);
		if (found)
			found->fd = -1;
	} else {
		if (!found)
			found = free ? free : own->registration_count < LISTENERS ? &own->registrations[own->registration_count++] : NULL;
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

/* Not by a drain that this process's parent was in. */
static bool is_frozen_here(const struct conn *c)
{
	return unlikely(c->flags & CONN_FROZEN) && drain_is_ours() && c->flags & CONN_FROZEN;
}

bool drain_epoll(int epfd, int op, int fd, const struct epoll_event *event)
{
	struct conn *c = conn_at(fd);

	if (likely(!c)) {
		if (unlikely(track_knows(fd)) && (event || op == EPOLL_CTL_DEL) && is_listener(fd, 0))
			return note_registration(epfd, op, fd, event);
		return false;
	}
	if (op == EPOLL_CTL_DEL && c->epfd == epfd)
		conn_clear(c, CONN_POLLED | CONN_REARM);
	if (!event || op == EPOLL_CTL_DEL)
		return is_frozen_here(c) && (next_epoll_ctl(epfd, op, fd, NULL), true); /* it may be out of it */
	if (c->flags & CONN_POLLED && (c->epfd != epfd || c->polled != fd))
		conn_set(c, CONN_BLIND);
	c->epfd = epfd;
	c->polled = fd;
	c->events = event->events;
	c->data = event->data.u64;
	conn_set(c, CONN_POLLED);
	if (likely(!is_frozen_here(c)))
		return false;
	conn_set(c, CONN_POLLED | CONN_REARM); /* once more: who froze it may not have found it in the set yet */
	return true;
}

static bool blocks(int fd)
{
	return !(next_fcntl(fd, F_GETFL, NULL) & O_NONBLOCK);
}

/*
 * Until the drain ends. The doorbell's ticks end the futex call each time; a restart may leave from here. A signal of the program's ends it as it would end the call
 * that waits here (with SA_RESTART the kernel goes on by itself): servers stop their threads so. 0, or -EINTR.
 */
static int park(void)
{
	int word = atomic_load(&parked_word);

	while (atomic_load(&drain_active) && atomic_load(&parked_word) == word) {
		unsigned rings = doorbell_rings;

		if (next_sys(SYS_futex, &parked_word, FUTEX_WAIT_PRIVATE, word, NULL) && errno == EINTR && doorbell_rings == rings)
			return -EINTR;
	}
	return 0;
}

bool drain_wants_out(void)
{
	return atomic_load(&drain_active) && drain_self && atomic_load(&drain_self->fd) >= 0;
}

/*
 * Was this thread told of it before it was frozen, and comes only now? A loop works off a batch of events in which there are readable descriptors, and to some of them "readable,
 * but EAGAIN" means that the other side has ended (EventMachine closes it); or it would sleep here for good, with other connections behind it that are not done. What is there is
 * taken, and served, and then it freezes again. Without end that would be for a client who asks without a pause of a thread that does nothing else: for such, once.
 */
static cpr_thread int let_in; /* the drain in which this thread has been, as parked_word counts them */

static bool first_time(void)
{
	int drain = atomic_load(&parked_word) + 1;

	if (let_in == drain)
		return false;
	let_in = drain;
	return true;
}

static bool comes_late(int fd, struct conn *c, bool now)
{
	if (atomic_load(&drain_over_here) || c->flags & CONN_SHUT || !conn_has_unread(fd) || (!now && blocks(fd) && !first_time()))
		return false;
	thaw(c);
	return true;
}

static bool client_waits(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return !atomic_load(&drain_over_here) && blocks(fd) && next_poll(&p, 1, 0) > 0 && first_time();
}

int drain_hold_back(struct caller *me, int fd, struct conn *c, bool now)
{
	int kept = errno;

	for (;;) {
		if (!drain_is_ours())
			return 0;
		if (c && c->state == CONN_ANSWERED)
			conn_set(c, CONN_ASKED); /* this is the asking */
		if (c && !(c->flags & CONN_FROZEN) && !conn_at_boundary(c, io_now()))
			return 0;
		if (c ? !freeze(fd, c, false, me) || comes_late(fd, c, now) : client_waits(fd))
			return 0;
		drain_exit();
		if (now || !blocks(fd))
			return -EAGAIN;
		if (park())
			return -EINTR;
		if (c && conn_at(fd) != c)
			return 0; /* it has been passed on: what stands there has ended, and says so */
		errno = kept;
		if (me)
			atomic_store_explicit(&me->fd, fd, memory_order_relaxed);
		atomic_signal_fence(memory_order_seq_cst);
	}
}

void drain_wrote(int fd, struct conn *c)
{
	if (drain_is_ours() && conn_at_boundary(c, c->wrote_at))
		freeze(fd, c, false, drain_self);
}

/* ---- the handler's part ---- */

/* In a forked child: a drain that its parent is in is not its own (its owner rings it for that). */
static void forget_drain(void)
{
	if (likely(!atomic_load(&drain_active)))
		return;
	atomic_store(&drain_active, false);
	atomic_store(&drain_over_here, false);
	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);

		if (c)
			conn_clear(c, CONN_FROZEN | CONN_POLLED);
	}
}

bool drain_is_ours(void)
{
	int kept = errno;

	guard_own_memory(); /* a child's first question */
	errno = kept;
	return atomic_load(&drain_active);
}

void drain_init(void)
{
	own = guard_cleared(sizeof(*own));
	guard_when_born(forget_drain);
	next_sys(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
}

/* Every thread has seen what was stored before, or what it stored before is seen after. */
static void barrier(void)
{
	if (next_sys(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0))
		next_sys(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

void drain_begin(void)
{
	int kept = errno;

	atomic_store(&drain_active, true);
	barrier();
	freeze_listeners(true);
	forget_waiters();
	errno = kept;
}

/* The last look: a thread that came late a moment ago may be taking a request, or a client, behind the looks so far. */
bool drain_close(bool anyway)
{
	int kept = errno;
	bool closed;

	atomic_store(&drain_over_here, true);
	barrier();
	closed = (!drain_busy() && !drain_call_out()) || anyway;
	if (!closed)
		atomic_store(&drain_over_here, false);
	errno = kept;
	return closed;
}

size_t drain_call_out(void)
{
	int pid = getpid();
	size_t inside = 0;

	for (int i = 0; i < callers_top(); i++) {
		int tid = atomic_load(&own->callers[i].tid), fd = atomic_load(&own->callers[i].fd);
		struct conn *c = conn_at(fd);

		if (!tid || fd < 0)
			continue;
		if (c && !conn_at_boundary(c, io_now()))
			continue; /* reads the rest of a request: counted as busy already */
		if (next_sys(SYS_tgkill, pid, tid, cpr__settings.signal) && errno == ESRCH) {
			atomic_store(&own->callers[i].tid, 0);
			continue;
		}
		inside++;
	}
	return inside;
}

size_t drain_busy(void)
{
	int64_t now = io_now();
	size_t busy = 0;

	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);
		enum conn_view view;

		if (!c || c->flags & CONN_FROZEN)
			continue;
		view = conn_look(c, fd, now);
		switch (view) {
		case CONN_GONE:
			conn_end(fd);
			break;
		case CONN_STANDS:
		case CONN_QUIET:
			busy += !freeze(fd, c, view == CONN_QUIET, NULL);
			break;
		case CONN_GOES_ON:
			busy++;
		}
	}
	return busy;
}

bool drain_serves(void)
{
	for (int i = 0; i < registration_count(); i++)
		if (own->registrations[i].fd >= 0)
			return true;
	return conn_next(0) >= 0;
}

void drain_wake(void)
{
	int kept = errno;

	atomic_fetch_add(&parked_word, 1);
	next_sys(SYS_futex, &parked_word, FUTEX_WAKE_PRIVATE, INT32_MAX);
	errno = kept;
}

void drain_thaw(void)
{
	int kept = errno;

	atomic_store(&drain_over_here, false);
	atomic_store(&drain_active, false);
	freeze_listeners(false);
	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);

		if (c)
			thaw(c);
	}
	drain_wake();
	errno = kept;
}

/* ---- waiting for events ---- */

/* Who waits on an epoll set while a drain is on: one thread, or one of several, and then nobody knows who serves what. */
static cpr_large struct waiter {
	_Atomic int epfd; /* + 1; 0: free */
	_Atomic int tid;  /* -1: several */
} waiters[WAITERS];

static bool waits_alone(int epfd)
{
	int tid = (int)next_sys(SYS_gettid);

	for (int i = 0; i < WAITERS; i++) {
		int there = 0, none = 0;

		if (!atomic_compare_exchange_strong(&waiters[i].epfd, &there, epfd + 1) && there != epfd + 1)
			continue;
		if (!atomic_compare_exchange_strong(&waiters[i].tid, &none, tid) && none != tid)
			atomic_store(&waiters[i].tid, -1);
		return atomic_load(&waiters[i].tid) == tid;
	}
	return false;
}

static void forget_waiters(void)
{
	for (int i = 0; i < WAITERS; i++) {
		atomic_store(&waiters[i].tid, 0);
		atomic_store(&waiters[i].epfd, 0);
	}
}

/* It waits for input on it, and has nothing to write. */
static void awaits(int fd, struct conn *c)
{
	conn_awaits(c);
	if (!(c->flags & CONN_FROZEN) && conn_at_boundary(c, io_now()))
		freeze(fd, c, false, drain_self);
}

void drain_waits(int epfd)
{
	int kept = errno;

	if (!waits_alone(epfd))
		return;
	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);

		if (c && c->flags & CONN_POLLED && c->epfd == epfd && (c->events & (EPOLLIN | EPOLLOUT)) == EPOLLIN)
			awaits(fd, c);
	}
	errno = kept;
}

static bool is_frozen(int fd)
{
	struct conn *c = conn_at(fd);
	struct entry *e;

	if (c) /* one with a request in it is served once more: see freeze() */
		return c->flags & CONN_FROZEN || (conn_at_boundary(c, io_now()) && !conn_has_unread(fd));
	e = track_knows(fd) ? table_by_fd(cpr__table, fd) : NULL;
	return e && e->kind == ENTRY_STREAM && e->flags & ENTRY_LISTENING;
}

/* ms of this slice; less when the program's own time ends before */
static int slice(int64_t deadline)
{
	int64_t left = deadline < 0 ? SLICE_MS : (deadline - io_now() + 999999) / 1000000;

	return left < 0 ? 0 : left < SLICE_MS ? (int)left : SLICE_MS;
}

static int poll_ms(struct pollfd *fds, nfds_t n, int ms, const sigset_t *mask)
{
	struct timespec time = {ms / 1000, ms % 1000 * 1000000L};

	return next_ppoll(fds, n, ms < 0 ? NULL : &time, mask);
}

int drain_poll(struct pollfd *fds, nfds_t n, int timeout_ms, const sigset_t *mask)
{
	int64_t deadline = timeout_ms < 0 ? -1 : io_now() + timeout_ms * INT64_C(1000000);
	size_t size = (n + 1) * sizeof(*fds);
	struct pollfd *some = pool_map(size);
	int r = 0;

	if (!some)
		return poll_ms(fds, n, timeout_ms, mask);
	for (nfds_t i = 0; i < n; i++) {
		struct conn *c = (fds[i].events & (POLLIN | POLLOUT)) == POLLIN ? conn_at(fds[i].fd) : NULL;

		if (c)
			awaits(fds[i].fd, c);
	}
	do {
		memcpy(some, fds, n * sizeof(*fds));
		for (nfds_t i = 0; i < n; i++)
			if (is_frozen(some[i].fd))
				some[i].fd = -1; /* poll passes over those */
		r = poll_ms(some, n, slice(deadline), mask);
		for (nfds_t i = 0; r > 0 && i < n; i++)
			fds[i].revents = some[i].fd < 0 ? 0 : some[i].revents;
	} while (r == 0 && atomic_load(&drain_active) && (deadline < 0 || io_now() < deadline));
	pool_unmap(some, size);
	if (r == 0 && !atomic_load(&drain_active) && (deadline < 0 || io_now() < deadline))
		return poll_ms(fds, n, deadline < 0 ? -1 : (int)((deadline - io_now()) / 1000000) + 1, mask);
	for (nfds_t i = 0; r == 0 && i < n; i++)
		fds[i].revents = 0;
	return r;
}

static void filter(int n, const fd_set *from, fd_set *to)
{
	size_t words = ((size_t)n + 8 * sizeof(long) - 1) / (8 * sizeof(long));

	memcpy(to, from, words * sizeof(long));
	for (int fd = 0; fd < n; fd++)
		if (FD_ISSET(fd, to) && is_frozen(fd))
			FD_CLR(fd, to);
}

static void note_awaited(int n, const fd_set *r, const fd_set *w)
{
	for (int fd = 0; fd < n; fd++) {
		struct conn *c = FD_ISSET(fd, r) && !(w && FD_ISSET(fd, w)) ? conn_at(fd) : NULL;

		if (c)
			awaits(fd, c);
	}
}

static int select_for(int n, fd_set *sets[3], int64_t ns, const sigset_t *mask)
{
	struct timespec time = {ns / 1000000000, ns % 1000000000};

	return next_pselect(n, sets[0], sets[1], sets[2], ns < 0 ? NULL : &time, mask);
}

int drain_select(int n, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout, const sigset_t *mask)
{
	int64_t deadline = timeout ? io_now() + timeout->tv_sec * INT64_C(1000000000) + timeout->tv_usec * 1000 : -1, left;
	fd_set from[3], *sets[3] = {r, w, x};
	int done = 0;

	if (n > FD_SETSIZE) /* more than a set of libc's own holds */
		return select_for(n, sets, deadline < 0 ? -1 : deadline - io_now(), mask);
	for (int i = 0; i < 3; i++)
		if (sets[i])
			from[i] = *sets[i];
	if (r)
		note_awaited(n, r, w);
	while (!done && atomic_load(&drain_active) && (deadline < 0 || io_now() < deadline)) {
		for (int i = 0; i < 3; i++)
			if (sets[i])
				filter(n, &from[i], sets[i]);
		done = select_for(n, sets, slice(deadline) * INT64_C(1000000), mask);
	}
	left = deadline < 0 ? -1 : deadline > io_now() ? deadline - io_now() : 0;
	for (int i = 0; done <= 0 && i < 3; i++)
		if (sets[i])
			*sets[i] = from[i]; /* as the kernel leaves them at an error, and as it must find them */
	if (!done && !atomic_load(&drain_active))
		done = select_for(n, sets, left, mask);
	else if (!done)
		for (int i = 0; i < 3; i++)
			if (sets[i])
				memset(sets[i], 0, ((size_t)n + 8 * sizeof(long) - 1) / (8 * sizeof(long)) * sizeof(long));
	if (timeout) {
		left = deadline > io_now() ? deadline - io_now() : 0;
		*timeout = (struct timeval){left / 1000000000, left % 1000000000 / 1000};
	}
	return done;
}
