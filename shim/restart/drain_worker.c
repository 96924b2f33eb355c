/* SPDX-License-Identifier: MIT */
/*
 * A worker in a drain of several processes: drains when its owner does, passes on idle connections, and waits for its
 * signal to leave.
 */
#define _GNU_SOURCE
#include "restart/drain_worker.h"

#include "process/roster.h"
#include "process/page.h"
#include "process/caller.h"
#include "process/task.h"
#include "drain/carry.h"
#include "deliver/queue.h"
#include "drain/drain.h"
#include "drain/freeze.h"
#include "fd/conn.h"
#include "fd/inherited.h"
#include "process/guard.h"
#include "base/io.h"
#include "process/procinfo.h"
#include "base/log.h"
#include "base/next.h"
#include "base/pool.h"
#include "base/raw.h"
#include "drain/scm_recv.h"
#include "drain/inflight.h"
#include "fd/tagging.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static cpr_large struct drain_worker_message message; /* too large for a handler's stack */
static cpr_touched uint64_t draining_for; /* the nonce of the drain that this worker is in */
static bool passed_on;
static int64_t soon; /* until when it looks often: its owner waits, and clients are held */
/* what it has passed on, and holds frozen until the owner execs: a restart that is called off gives it back */
static struct passed *mine;
static cpr_touched size_t mine_count;

/* Of a process that was exec'ed; nonce 0: it has no request. */
static cpr_touched struct {
	uint64_t nonce;
	int64_t deadline;
	int sock, owner;
	uint64_t owner_start;
	bool gone; /* the owner, on to the next generation */
} told;

enum { FIRST_STEP_MS = 1, STEP_MS = 5, SLOW_STEP_MS = 200, DEAD_MS = 2000 };

#define SOON_NS INT64_C(30000000)
#define PATIENCE_NS INT64_C(1000000000) /* for the owner, to take what is on its way */

/*
 * The number stays in use, by a socket whose other end is closed: if the program looks at its connection before its
 * signal to leave, it finds it ended.
 */
static void drain_worker_let_go(int fd)
{
	static int ended = -1;
	int pair[2];

	for (int dup = conn_next_dup(fd, 0); dup >= 0; dup = conn_next_dup(fd, dup + 1))
		drain_worker_let_go(dup);
	if (ended < 0 && !next_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair)) {
		raw_close(pair[1]);
		ended = io_move_up(pair[0], fd + 1);
	}
	if (ended >= 0 && next_dup3(ended, fd, O_CLOEXEC) >= 0) {
		conn_end(fd); /* not before: see restart/pass.c */
		return;
	}
	conn_end(fd);
	raw_close(fd);
}

/* The kernel limits what a user has in messages (ETOOMANYREFS): the owner takes it out meanwhile. */
static int send_fds(int sock, const int *fds, size_t n)
{
	const struct timespec ms = {0, 1000000};
	int64_t until = io_now() + PATIENCE_NS;
	int r;

	while ((r = io_send_fds(sock, &message, sizeof(message), fds, n)) == -ETOOMANYREFS && io_now() < until)
		next_sys(SYS_nanosleep, &ms, NULL);
	return r;
}

/* Passes on the first of these n, as many in a row as are of one listener. How many; 0: it could not. */
static size_t drain_worker_tell(int sock, const struct passed *p, size_t n)
{
	const struct entry *e = p->listener != -1 ? tagging_listener(p->listener) : NULL;
	int fds[IO_FDS_MAX];

	memset(&message, 0, sizeof(message));
	message.by_address = p->listener == TAGGING_REMOTE;
	if (e && e->flags & ENTRY_STARTED_WITH) {
		message.listener_ino = e->object.ino;
	} else if (e) {
		message.id = e->id;
		memcpy(message.name, e->name, strlen(e->name) + 1);
	}
	for (; message.count < n && message.count < IO_FDS_MAX && p[message.count].listener == p->listener;
	     message.count++) {
		message.inos[message.count] = p[message.count].ino;
		fds[message.count] = p[message.count].fd;
	}
	return send_fds(sock, fds, message.count) ? 0 : message.count;
}

/* What this worker has bound: the owner sees by the inode what it holds itself. */
static void tell_listeners(int sock)
{
	struct guard_hold hold;

	if (told.nonce ||
	    !guard_lock(&hold)) /* what a program that was exec'ed has bound, its own next one will bind */
		return;
	tagging_check_all(false);
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e)) {
		if (!(e->flags & ENTRY_KEPT) || e->flags & ENTRY_ORPHAN ||
		    (e->kind != ENTRY_STREAM && e->kind != ENTRY_DATAGRAM))
			continue;
		memset(&message, 0, sizeof(message));
		message.listener = 1;
		message.kind = e->kind;
		message.flags = e->flags & ENTRY_SAVED_FLAGS;
		message.backlog = e->backlog;
		message.path_dev = e->path_dev;
		message.path_ino = e->path_ino;
		memcpy(message.name, e->name, strlen(e->name) + 1);
		if (io_send(sock, &message, sizeof(message), e->fd))
			break;
	}
	guard_unlock(&hold);
}

static int connect_to_owner(void)
{
	int sock = caller_connect_in_turn(draining_for);

	if (sock >= 0)
		caller_wait_on(sock);
	return sock;
}

static size_t choose(struct carry_count *count)
{
	struct guard_hold hold;
	size_t n;

	if (!guard_lock(&hold))
		return 0;
	n = carry_choose(mine, deliver_take_back(mine, WORKER_PASSED_MAX), WORKER_PASSED_MAX, false, count);
	guard_unlock(&hold);
	return n;
}

static void pass_on(void)
{
	cleanup_fd int sock = connect_to_owner();
	struct carry_count count = {0};
	size_t n = 0, told_now = 0;

	mine = mine ? mine : pool_map(WORKER_PASSED_MAX * sizeof(*mine));
	if (sock >= 0)
		tell_listeners(sock);
	if (mine && sock >= 0)
		n = choose(&count);
	for (mine_count = 0; mine_count < n && (told_now = drain_worker_tell(sock, &mine[mine_count], n - mine_count));
	     mine_count += told_now)
		;
	memset(&message, 0, sizeof(message));
	message.last = 1;
	message.cut = (uint32_t)count.cut;
	message.empty = !count.cut && drain_serves();
	if (sock >= 0)
		io_send(sock, &message, sizeof(message), -1);
	else if (conn_next(0) >= 0) /* one without connections may come late */
		log_warn("this worker could not pass its connections on: they end with it");
	passed_on = true;
}

static void forget_told(void)
{
	if (!told.nonce)
		return;
	raw_close(told.sock);
	told.nonce = 0;
	inherited_pass(false);
}

static void end_drain(void)
{
	struct guard_hold hold;

	draining_for = 0;
	if (guard_lock(&hold)) {
		deliver_call_off();
		guard_unlock(&hold);
	}
	if (told.nonce)
		inherited_ask_again(); /* what was not delivered yet when this began, the owner delivers anew */
	drain_thaw();
	/*
	 * Not before: a thread that is about to freeze a connection would find that no owner carries it, and end it. It
	 * cut a client in one of a hundred restarts that were called off.
	 */
	forget_told();
}

static int64_t deadline(void)
{
	return told.nonce ? told.deadline : atomic_load(&page_shared_drain()->deadline);
}

static bool owner_lives(void)
{
	uint64_t start = procinfo_start_time(told.nonce ? told.owner : roster_owner());

	return start && (!told.nonce || start == told.owner_start);
}

/* The drain to be in. The owner's end of the connection closes when it execs; or dies, which is_abandoned sees. */
static uint64_t drain_worker_wanted(void)
{
	char word;
	ssize_t n;

	if (!told.nonce)
		return roster_owner() == getpid() ? 0 : atomic_load(&page_shared_drain()->nonce);
	n = told.gone ? 0 : io_receive(told.sock, &word, 1, NULL);
	if (n > 0)
		return 0;
	told.gone |= n == 0 && owner_lives();
	return told.gone ? PAGE_GONE : told.nonce;
}

/*
 * Has this worker no owner left that could retire it? Then it serves on. A late owner proves nothing once its exec has
 * begun: the next generation may need long to become ready. A worker that accepted meanwhile would lose those clients
 * when it is retired. In an exec the owner looks dead for a moment: its main thread ends before the thread that execs
 * replaces it.
 */
static bool is_abandoned(uint64_t nonce)
{
	static int dead_ticks;
	int64_t late = deadline() + cpr__settings.ready_timeout_s * INT64_C(1000000000);

	dead_ticks = owner_lives() ? 0 : dead_ticks + 1;
	return dead_ticks * SLOW_STEP_MS > DEAD_MS || (io_now() > late && nonce != PAGE_GONE);
}

/*
 * Both sides have closed it before it was passed on. A thread that polls it would check a hundred times a second
 * whether it is frozen, and such a worker never looks idle.
 */
static bool drain_worker_has_ended(const struct conn *c, int fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	return c && c->flags & CONN_FROZEN && !(c->flags & CONN_EXEMPT) &&
	       getpeername(fd, (struct sockaddr *)&peer, &len) && errno == ENOTCONN;
}

static void let_all_go(void)
{
	bool any = mine_count;

	while (mine_count)
		drain_worker_let_go(mine[--mine_count].fd);
	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);

		if (!drain_worker_has_ended(c, fd))
			continue;
		freeze_undo(c);
		conn_end(fd);
		any = true;
	}
	if (any)
		drain_wake(); /* a thread that is parked on one of them finds its end */
}

/*
 * The next generation ended before it could signal this worker to leave, or before the worker left. Nothing else would
 * end the worker, and it holds the listener.
 */
static void leave_too(void)
{
	static int64_t told_at;
	int64_t now = io_now();

	if (!told_at)
		kill(getpid(), cpr__settings.retire_signal);
	told_at = told_at ? told_at : now;
	if (now - told_at > cpr__settings.drain_s * INT64_C(1000000000))
		kill(getpid(), SIGKILL);
}

static void drain_worker_begin(uint64_t nonce)
{
	draining_for = nonce;
	passed_on = false;
	mine_count = 0;
	soon = io_now() + SOON_NS;
	tagging_resolve();
	drain_begin();
}

/* ms until the next look. */
static int drain_worker_go_on(void)
{
	size_t going = passed_on ? 0 : drain_busy() + drain_call_out();

	bool late = io_now() >= deadline();

	if (!passed_on && ((going && !late) || !drain_close(late)))
		return io_now() < soon ? FIRST_STEP_MS : STEP_MS;
	if (!passed_on)
		pass_on();
	return SLOW_STEP_MS;
}

/* Before the drain: has it slow requests? True: look again. */
static bool survey(void)
{
	static uint64_t begun, told;
	uint64_t asked = atomic_load(&page_shared_drain()->survey);

	if (!asked || asked == told)
		return false;
	if (begun != asked)
		inflight_begin();
	begun = asked;
	if (inflight_left())
		return true;
	told = asked;
	roster_worker_calm(asked);
	return false;
}

/* ms until the next look; 0: there is nothing to do. */
static int drain_worker_look_at(uint64_t nonce)
{
	bool slow = survey();

	if (nonce == PAGE_GONE && draining_for)
		let_all_go();
	if (draining_for && nonce != PAGE_GONE && draining_for != nonce)
		end_drain();
	if (nonce && nonce != PAGE_GONE && !draining_for)
		drain_worker_begin(nonce);
	if ((draining_for || nonce == PAGE_GONE) && is_abandoned(nonce)) {
		if (nonce == PAGE_GONE) {
			leave_too();
			return SLOW_STEP_MS;
		}
		log_warn("the owner of this worker is gone in the middle of a restart: it serves on alone");
		end_drain();
	}
	if (draining_for)
		return drain_worker_go_on();
	if (nonce == PAGE_GONE) /* the drain has passed it by, and it is to leave all the same */
		return SLOW_STEP_MS;
	return slow ? STEP_MS : 0;
}

/* The errand. */
static int drain_worker_look(void)
{
	struct page_drain *drain = page_shared_drain();

	if (!drain || (!told.nonce && (roster_owner() == getpid() ||
				       (!atomic_load(&drain->nonce) && !draining_for && !atomic_load(&drain->survey)))))
		return 0;
	return drain_worker_look_at(drain_worker_wanted());
}

void drain_worker_init(void)
{
	task_adds(drain_worker_look);
}

/* A worker of an earlier generation that takes its time to leave has passed on what it had. */
bool drain_worker_is_concerned(const struct protocol_request *request)
{
	drain_worker_look(); /* the last drain may be called off, and not looked at since */
	return request->drain.shares || (!told.nonce && scm_recv_is_of(request->drain.keys, request->drain.key_count));
}

const char *drain_worker_told(int sock, const struct protocol_request *request)
{
	uint64_t nonce = request->drain.nonce;
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);

	if (told.nonce || draining_for)
		return "this process is in a drain";
	if (!roster_elect() || roster_has_workers())
		return "this process has workers of its own, or is one";
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) || !procinfo_descends(getpid(), peer.pid) ||
	    !nonce || nonce == PAGE_GONE)
		return "this process was not started by the caller";
	/* its knocks would be taken for clients by a process that cannot ask for what they stand for */
	if (!inherited_ancestor())
		return "this process may not look at the caller";
	next_fcntl(sock, F_SETFL, (void *)(long)O_NONBLOCK);
	told.gone = false;
	told.sock = sock;
	told.owner = peer.pid;
	told.owner_start = procinfo_start_time(peer.pid);
	told.deadline = request->drain.deadline;
	told.nonce = nonce;
	inherited_pass(true);
	return NULL;
}

bool drain_worker_is_told(void)
{
	return told.nonce;
}

void drain_worker_forget(void)
{
	if (told.nonce)
		raw_close(told.sock);
	told.nonce = 0;
	draining_for = 0;
	mine_count = 0;
}
