/* SPDX-License-Identifier: MIT */
/* Pass: freeze, send, and leave an ended socket behind. */
#define _GNU_SOURCE
#include "restart/pass.h"

#include "base/io.h"
#include "base/log.h"
#include "base/next.h"
#include "base/raw.h"
#include "deliver/queue.h"
#include "deliver/take.h"
#include "drain/carry.h"
#include "drain/drain.h"
#include "drain/freeze.h"
#include "drain/scm_send.h"
#include "fd/conn.h"
#include "fd/gate.h"
#include "fd/tagging.h"
#include "model/protocol.h"
#include "process/active_calls.h"
#include "process/guard.h"
#include "process/roster.h"
#include "restart/give.h"
#include "restart/take.h"
#include "restart/threads.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>

#define MS INT64_C(1000000)
#define TOLD_NS (1000 * MS)
#define FIRST_TOLD_NS (100 * MS) /* the first count is sent after the first sweep */

/*
 * A look costs some microseconds for each connection: so the fewer there are to pass, the rarer. What freezes by
 * itself, behind its answer, wakes the task.
 */
enum { FIRST_STEP_MS = 1, FULL_STEP_MS = 2, MOST_STEP_MS = 1000, WAITED_MAX = 50 };

static struct {
	int sock; /* -1: none */
	int step;
	size_t told;
	/* for a thread that must still leave its read of a connection at a boundary */
	bool waits;
	bool undone; /* one that was frozen goes on here: a thread may be parked on it */
	int waited;      /* looks, one behind the other */
	int64_t begun_at;
	int64_t told_at; /* 0: no count was sent yet */
} line = {.sock = -1};

/* Taken out of the queues, for a line that took no more. */
static struct {
	struct passed all[PROTOCOL_BATCH_MAX];
	size_t count;
} waiting;

/* One message, and the connections that go with it. */
struct parcel {
	struct protocol_batch batch;
	int fds[PROTOCOL_BATCH_MAX];
};

void pass_begin(int sock)
{
	if (line.sock >= 0)
		pass_end();
	line.sock = sock;
	line.step = FIRST_STEP_MS;
	line.told_at = 0;
	line.begun_at = io_now();
	tagging_resolve();
	drain_begin_passing();
	scm_send_look_anew();
}

/* They are this generation's again. */
static void put_back_waiting(void)
{
	struct guard_hold hold;

	if (!waiting.count || !guard_lock(&hold))
		return;
	for (; waiting.count; waiting.count--) {
		const struct passed *p = &waiting.all[waiting.count - 1];
		const struct entry *listener = table_by_fd(cpr__table, p->listener);

		if (!listener || !deliver_take(listener, p->fd))
			raw_close(p->fd);
	}
	guard_unlock(&hold);
}

void pass_end(void)
{
	if (line.sock < 0)
		return;
	io_close(&line.sock);
	line.sock = -1;
	put_back_waiting();
	drain_thaw();
}

bool pass_under_way(void)
{
	return line.sock >= 0;
}

void pass_forget(void)
{
	if (line.sock >= 0)
		raw_close(line.sock);
	line.sock = -1;
	waiting.count = 0;
}

static bool pass_is_over(void)
{
	char byte;
	ssize_t n = raw_recv(line.sock, &byte, 1, MSG_DONTWAIT);

	return !n || (n < 0 && errno != EAGAIN && errno != EINTR);
}

/* ---- an ended socket in its place: the program finds the end of its connection, and closes it ---- */

/* A receive timeout by which it is known, whatever becomes of its number. It never waits: it has ended. */
static const struct timeval end_mark = {.tv_sec = 0x637072};

/* -1: no number is free for it. */
static int make_end(void)
{
	int pair[2];

	if (next_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		return -1;
	raw_close(pair[1]);
	next_setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &end_mark, sizeof(end_mark));
	return pair[0];
}

bool pass_left_end(int fd)
{
	struct timeval mark = {0};
	socklen_t len = sizeof(mark);
	int saved_errno = errno;
	bool is = !getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &mark, &len) && mark.tv_sec == end_mark.tv_sec;

	errno = saved_errno;
	return is;
}

/*
 * Puts an ended socket at the number; each number has its own. The obvious code uses one for all. Then its registration
 * in an epoll set survives the program's close(), since the socket stays open at other numbers. It keeps reporting a
 * connection that the program does not have any more. Returns false if no number was free, and the common one is there:
 * do not register that.
 *
 * The ended socket is there before CONN_LEAVING goes with the record. In the other order, a thread that came between
 * the two read the next request, which the next generation then never saw: 1 of 15,000 requests.
 */
static bool put_end_at(int fd)
{
	static int spare = -1;
	int flags = next_fcntl(fd, F_GETFD, NULL) & FD_CLOEXEC ? O_CLOEXEC : 0;
	cleanup_fd int own = -1;

	if (spare < 0) {
		spare = make_end();
		spare = spare < 0 ? spare : io_move_up(spare, PROTOCOL_HIGH);
	}
	own = make_end();
	if (own < 0 && spare < 0) {
		conn_end(fd); /* first: the number may be another connection's at once */
		raw_close(fd);
		return false;
	}
	next_dup3(own < 0 ? spare : own, fd, flags);
	conn_end(fd);
	return own >= 0;
}

/*
 * The registration goes with the connection, and is made again for the ended socket, so that the program's loop sees
 * the end. (With EPOLLONESHOT the freeze left it in its set: it would go on to report a connection that another process
 * has.)
 */
static void leave_end(int fd, struct conn *c)
{
	struct epoll_event event = {.events = c->events, .data.u64 = c->data};
	int epfd = c->epfd, polled = c->polled;
	bool was_polled = c->flags & CONN_POLLED;

	if (was_polled)
		next_epoll_ctl(epfd, EPOLL_CTL_DEL, polled, NULL);
	for (int twin = c->dups ? conn_next_dup(fd, 0) : -1; twin >= 0; twin = conn_next_dup(fd, twin + 1))
		put_end_at(twin);
	if (put_end_at(fd) && was_polled)
		next_epoll_ctl(epfd, EPOLL_CTL_ADD, polled, &event);
}

/* ---- passing ---- */

/* False: it stays for now. A thread that sleeps in a read of it comes out, and freezes it itself. */
static bool freezes(int fd, struct conn *c, int64_t now)
{
	enum conn_view view;

	if (c->flags & CONN_FROZEN)
		return true;
	if (!conn_may_stop(c, fd, now) || carry_fate(c, fd, false) != FATE_CARRY)
		return false;
	view = conn_look(c, fd, now);
	if (view == CONN_GONE)
		conn_end(fd);
	if (view < CONN_AT_BOUNDARY)
		return false;
	if (freeze_conn(fd, c, view, NULL))
		return true;
	line.waits = true;
	for (int i = 0; i < active_calls_top(); i++)
		if (conn_at(atomic_load(&active_calls_at(i)->fd)) == c)
			threads_ring(atomic_load(&active_calls_at(i)->tid));
	return false;
}

/* Drops the i-th of a parcel. */
static void unpack(struct parcel *p, uint32_t i)
{
	struct conn *c = conn_at(p->fds[i]);

	if (c)
		conn_clear(c, CONN_LEAVING);
	p->batch.count--;
	p->fds[i] = p->fds[p->batch.count];
	p->batch.value[i] = p->batch.value[p->batch.count];
}

/*
 * A thread that finds a request on a frozen connection lets it go on, and reads (drain_hold_back). One that was there
 * before CONN_LEAVING was set is seen in its place, and keeps the connection; one that comes later sees that flag.
 * Without this, one request in some thousands was read here and never answered.
 */
static void keep_what_is_read(struct parcel *p)
{
	drain_barrier();
	for (uint32_t i = 0; i < p->batch.count;) {
		struct conn *c = conn_at(p->fds[i]);

		if (c && c->flags & CONN_FROZEN && !freeze_is_being_read(p->fds[i], c, NULL)) {
			i++;
			continue;
		}
		line.waits = true;
		unpack(p, i);
	}
}

/* How many went; or -errno: none. */
static int send_parcel(struct parcel *p)
{
	int r = 0, n;

	if (p->batch.count)
		keep_what_is_read(p);
	n = (int)p->batch.count;
	if (n)
		r = give_send(line.sock, &p->batch, sizeof(p->batch), p->fds, (size_t)n, 0);
	for (int i = 0; i < n && !r; i++) {
		struct conn *c = conn_at(p->fds[i]);

		if (c)
			leave_end(p->fds[i], c);
	}
	while (r && p->batch.count)
		unpack(p, 0);
	p->batch.count = 0;
	return r ? r : n;
}

static void pack(struct parcel *p, int fd, const struct entry *listener)
{
	conn_set(conn_at(fd), CONN_LEAVING);
	p->fds[p->batch.count] = fd;
	p->batch.value[p->batch.count++] = listener->fd == TAGGING_REMOTE ? PROTOCOL_BY_ADDRESS : gate_inode(listener);
}

/*
 * Threads inside accept(): what they have taken has no record yet, and the supervisor ends a generation that says that
 * nothing is left. They come out, and park. How many there are.
 */
static size_t accepting(void)
{
	size_t n = 0;

	for (int i = 0; i < active_calls_top(); i++) {
		int tid = atomic_load(&active_calls_at(i)->tid), fd = atomic_load(&active_calls_at(i)->fd);

		if (tid && drain_receives(tid, fd)) {
			line.waits = true;
			n++;
		}
		if (!tid || fd < 0 || conn_at(fd))
			continue;
		threads_ring(tid);
		line.waits = true;
		n++;
	}
	return n;
}

/*
 * Connections that were given to other processes by message, and are not received yet, have no record in any of them.
 * The supervisor asks those processes after this one's report.
 */
static size_t on_the_way(void)
{
	if (!atomic_load(&scm_send_any) || scm_send_is_settled())
		return 0;
	line.waits = true;
	return 1;
}

/* How many were passed; *left: how many are this generation's still. -errno when the line takes nothing now. */
static int pass_all(size_t *left)
{
	static struct parcel p; /* the task's alone */
	int64_t now = io_now();
	int passed = 0, r = 0, n;

	p.batch = (struct protocol_batch){.magic = PROTOCOL_MAGIC, .kind = PROTOCOL_BATCH_CARRY};
	line.waits = line.undone = false;
	*left = accepting() + on_the_way(); /* before the records are looked at */
	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);
		const struct entry *listener = c && !(c->flags & CONN_EXEMPT) ? tagging_listener(c->listener) : NULL;

		if (!c || c->flags & CONN_EXEMPT)
			continue;
		*left += 1;
		if (r < 0 || !listener || !freezes(fd, c, now))
			continue;
		/* its client has ended it meanwhile: the program is to see that */
		if (carry_fate(c, fd, false) != FATE_CARRY) {
			freeze_undo(c);
			line.undone = true;
			continue;
		}
		pack(&p, fd, listener);
		if (p.batch.count < PROTOCOL_BATCH_MAX)
			continue;
		r = send_parcel(&p);
		passed += r < 0 ? 0 : r;
	}
	n = r < 0 ? r : send_parcel(&p);
	passed += n < 0 ? 0 : n;
	*left -= (size_t)passed;
	return n < 0 ? n : passed;
}

/*
 * What was carried to this generation, and the program has not accepted yet: a restart, or a rollback, came at once.
 * How many were passed, or -errno.
 */
static int pass_undelivered(void)
{
	struct protocol_batch batch = {.magic = PROTOCOL_MAGIC, .kind = PROTOCOL_BATCH_CARRY};
	int fds[PROTOCOL_BATCH_MAX], r;
	struct guard_hold hold;

	if (!take_delivers_here() || (!waiting.count && !deliver_left()) || !guard_lock(&hold))
		return 0;
	waiting.count = waiting.count ? waiting.count : deliver_give_away(waiting.all, countof(waiting.all));
	for (; batch.count < waiting.count; batch.count++) {
		const struct entry *listener = table_by_fd(cpr__table, waiting.all[batch.count].listener);

		fds[batch.count] = waiting.all[batch.count].fd;
		batch.value[batch.count] = listener ? gate_inode(listener) : PROTOCOL_BY_ADDRESS;
	}
	guard_unlock(&hold);
	r = batch.count ? give_send(line.sock, &batch, sizeof(batch), fds, batch.count, 0) : 0;
	for (; !r && waiting.count; waiting.count--)
		raw_close(fds[waiting.count - 1]);
	return r ? r : (int)batch.count;
}

static void tell_left(size_t left, int64_t now)
{
	struct protocol_batch batch = {.magic = PROTOCOL_MAGIC, .kind = PROTOCOL_BATCH_LEFT, .left = (uint32_t)left};

	if (!line.told_at && line.waits && now - line.begun_at < FIRST_TOLD_NS)
		return;
	if (line.told_at && (left == line.told || (left && now - line.told_at < TOLD_NS)))
		return;
	if (give_send(line.sock, &batch, sizeof(batch), NULL, 0, 0))
		return;
	line.told = left;
	line.told_at = now;
}

int pass_look(void)
{
	size_t left = 0;
	int passed, more;

	if (line.sock < 0)
		return 0;
	if (pass_is_over()) {
		pass_end();
		return 0;
	}
	more = pass_undelivered();
	passed = more < 0 ? more : pass_all(&left);
	if (more > 0 && passed >= 0)
		passed += more;
	if (passed > 0 || line.undone)
		drain_wake(); /* threads that are parked on one of them find its end */
	if (passed == -EAGAIN || passed == -ETOOMANYREFS)
		return FULL_STEP_MS;
	tell_left(left + waiting.count + deliver_left() + take_left(), io_now());
	line.waited = line.waits && !passed ? line.waited + 1 : 0;
	line.step = passed > 0 || (line.waits && line.waited < WAITED_MAX) ? FIRST_STEP_MS
		    : line.step < MOST_STEP_MS / 2                         ? line.step * 2
									   : MOST_STEP_MS;
	return line.step;
}
