/* SPDX-License-Identifier: MIT */
/*
 * Several processes: the owner. It listens on an abstract socket for the time of a drain; its address stands in the
 * page that all of them share.
 */
#define _GNU_SOURCE
#include "restart/drain_owner.h"

#include "process/forks.h"
#include "process/procinfo.h"
#include "process/roster.h"
#include "process/page.h"
#include "process/birth.h"
#include "process/guard.h"
#include "base/full.h"
#include "base/io.h"
#include "base/log.h"
#include "base/next.h"
#include "base/pool.h"
#include "base/raw.h"
#include "base/room.h"
#include "drain/scm_recv.h"
#include "restart/drain_adopted.h"
#include "restart/exec_workers.h"
#include "fd/tagging.h"
#include "model/protocol.h"
#include "restart/drain_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	RING_TURNS = 16,
	CALLS_MAX = ROSTER_MAX,
	STRANGERS = 256, /* that are turned away at a look */
	LOOKED_AT = 32,   /* workers, at a step */
	HEARD_MAX = 4096, /* messages of one worker at a time */
};

static int door = -1;              /* where workers connect to */
static cpr_large struct {
	int sock, pid;
} calls[CALLS_MAX];                /* those that have called, and are not done */
static size_t call_count;
static cpr_large int called[ROSTER_MAX];
static cpr_large int rung[ROSTER_MAX]; /* which of those are awaited; 0: no more */
static size_t rung_count;
static cpr_large int empty[ROSTER_MAX]; /* those that have said so */
static size_t empty_count;
static struct passed *collected;
static size_t collected_count;
static struct carry_count counts;
static cpr_large struct drain_worker_message message;     /* too large for a handler's stack */

static bool said_stranger; /* once in a drain: any process may connect to an abstract name, again and again */

static bool open_door(void)
{
	struct sockaddr_un addr;
	uint64_t nonce = 0;
	socklen_t len;

	if (raw_getrandom(&nonce, sizeof(nonce), GRND_NONBLOCK) != sizeof(nonce))
		return false;
	nonce |= 1;
	said_stranger = false;
	door = next_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	len = protocol_address(nonce, &addr);
	if (door < 0 || next_bind(door, (struct sockaddr *)&addr, len) || next_listen(door, CALLS_MAX)) {
		io_close(&door);
		door = -1;
		return false;
	}
	atomic_store(&page_shared_drain()->nonce, nonce);
	return true;
}

/* Every worker once, also those that are born while the drain is on. */
static void ring_new(void)
{
	static cpr_large int now[ROSTER_MAX];
	static unsigned seen;
	static int turn;
	unsigned births = forks_births();
	size_t n;

	if (rung_count && births == seen &&
	    ++turn % RING_TURNS) /* to look at each of a thousand takes longer than a step */
		return;
	n = roster_workers(now, ROSTER_MAX);
	seen = births;
	for (size_t i = 0; i < n; i++) {
		size_t at = 0;

		while (at < rung_count && called[at] != now[i])
			at++;
		if (at < rung_count || rung_count == ROSTER_MAX)
			continue;
		called[rung_count] = now[i];
		rung[rung_count++] = kill(now[i], cpr__settings.signal) ? 0 : now[i];
	}
}

size_t drain_owner_slow(uint64_t survey)
{
	static uint64_t asked;
	static int turn;
	bool ring = asked != survey || ++turn % RING_TURNS == 0; /* again now and then: one may have been born since */
	size_t n;

	atomic_store(&page_shared_drain()->survey, survey);
	n = roster_workers_not_calm(survey, ring);
	asked = survey;
	return n;
}

void drain_owner_survey_over(void)
{
	atomic_store(&page_shared_drain()->survey, 0);
}

/*
 * Workers pass their connections to this process, whose limit may be that of a master without any: nginx's
 * worker_rlimit_nofile is for its workers only. The exec restores the limit, and so does a restart that is called off.
 */
static void lift_limit(bool on)
{
	static struct rlimit before;
	struct rlimit all;

	if (on && !next_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &before)) {
		all = (struct rlimit){before.rlim_max, before.rlim_max};
		next_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, &all, NULL);
	} else if (!on && before.rlim_max) {
		next_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, &before, NULL);
	}
}

/* Those that were exec'ed have no page of ours. */
static void ring_sharers(int64_t deadline)
{
	size_t n = exec_workers_ring(atomic_load(&page_shared_drain()->nonce), deadline, called + rung_count,
				     ROSTER_MAX - rung_count);

	memcpy(rung + rung_count, called + rung_count, n * sizeof(*rung));
	rung_count += n;
}

size_t drain_owner_call(int64_t deadline)
{
	int saved_errno = errno;
	size_t sharers = exec_workers_find();

	call_count = rung_count = collected_count = empty_count = 0;
	drain_adopted_begin();
	counts = (struct carry_count){0};
	roster_look_anyway();
	if (!roster_worker_count() && !sharers)
		return 0;
	if (!collected)
		collected = pool_map(WORKER_PASSED_MAX * sizeof(*collected));
	atomic_store(&page_shared_drain()->deadline, deadline);
	if (collected && open_door()) {
		lift_limit(true);
		ring_new();
		ring_sharers(deadline);
	}
	errno = saved_errno;
	return rung_count;
}

/* By its name; in a process that was exec'ed it has another one, or none. */
static const struct entry *listener_of_message(void)
{
	const struct entry *e = message.name[0] ? table_find(cpr__table, message.name, message.id) : NULL;

	if (e || !message.listener_ino)
		return e;
	for (e = table_first(cpr__table); e; e = table_after(e))
		if (e->kind == ENTRY_STREAM && e->object.ino == message.listener_ino)
			return e;
	return NULL;
}

/* The listener that a connection comes back from; -1: it does not. */
static int comes_from(int fd)
{
	const struct entry *e;
	struct guard_hold hold;
	int listener = -1;

	if (!guard_lock(&hold))
		return -1;
	e = message.by_address ? scm_recv_listener(fd) : listener_of_message();
	if (e && carry_comes_again(e))
		listener = e->fd;
	guard_unlock(&hold);
	return listener;
}

static void collect(int fd, int listener, uint64_t ino)
{
	if (collected_count == WORKER_PASSED_MAX) {
		full_note(FULL_PASSED, WORKER_PASSED_MAX);
		raw_close(fd);
		return;
	}
	*(listener >= 0 ? &counts.carried : &counts.closed) += 1;
	collected[collected_count++] = (struct passed){.fd = fd, .listener = listener, .ino = ino};
}

/*
 * What found no number free here ends with the worker. All of a batch come from one listener, or each is asked for its
 * own.
 */
static void collect_batch(const int *fds, size_t n)
{
	int listener = n && !message.by_address ? comes_from(fds[0]) : -1;

	if (message.count > IO_FDS_MAX)
		message.count = IO_FDS_MAX;
	if (message.count > n)
		counts.cut += message.count - n;
	for (size_t i = 0; i < n; i++)
		collect(fds[i], message.by_address ? comes_from(fds[i]) : listener, message.inos[i]);
}

static void heard_last(int pid)
{
	counts.cut += message.cut;
	if (message.empty && empty_count < ROSTER_MAX)
		empty[empty_count++] = pid;
	exec_workers_passed_on(pid, message.empty);
}

/* Takes the descriptors that came with the message, or closes them. */
static void drain_owner_take_passed(const int *fds, size_t n, bool sound)
{
	if (sound && message.listener && n == 1)
		drain_adopt(fds[0], &message);
	else if (sound && !message.listener)
		collect_batch(fds, n);
	else
		while (n)
			raw_close(fds[--n]);
}

/* True when this worker has said all. */
static bool drain_owner_hear(int sock, int pid)
{
	for (int i = 0; i < HEARD_MAX; i++) {
		int fds[IO_FDS_MAX];
		size_t count;
		ssize_t n = io_receive_fds(sock, &message, sizeof(message), fds, &count);

		if (n == -EAGAIN)
			return false;
		if (n <= 0) /* it died */
			return true;
		drain_owner_take_passed(fds, count,
			    n == sizeof(message) && !message.last && memchr(message.name, '\0', sizeof(message.name)));
		if (n == sizeof(message) && message.last) {
			heard_last(pid);
			return true;
		}
	}
	return false; /* more at the next tick */
}

/*
 * Returns the pid of the worker, or 0: a process that is no worker is ignored. A worker that has ended since counts: it
 * has passed on what it had.
 */
static int caller_pid(int sock)
{
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		return 0;
	if (roster_is_worker(peer.pid) || exec_workers_knows(peer.pid))
		return peer.pid;
	if (!said_stranger)
		log_warn("process %d, which is no worker, wanted to pass connections: not heard", peer.pid);
	said_stranger = true;
	return 0;
}

/* Rung, and neither finished nor gone. Whether they are gone is asked of a few at a time. */
static size_t awaited(void)
{
	static size_t looked_at;
	size_t n = 0;

	for (size_t i = 0; i < LOOKED_AT && i < rung_count; i++) {
		size_t at = looked_at++ % rung_count;

		if (rung[at] && !procinfo_start_time(rung[at]))
			rung[at] = 0;
	}
	for (size_t i = 0; i < rung_count; i++)
		n += rung[i] != 0;
	return n;
}

static void strike_out(int pid)
{
	for (size_t i = 0; i < rung_count; i++)
		if (rung[i] == pid)
			rung[i] = 0;
}

size_t drain_owner_collect(void)
{
	size_t left = 0;
	int saved_errno = errno, sock, refused, strangers = 0;

	if (door < 0)
		return 0;
	ring_new();
	while (strangers < STRANGERS && call_count < CALLS_MAX &&
	       (sock = raw_accept4(door, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		calls[call_count].sock = sock;
		calls[call_count].pid = caller_pid(sock);
		if (!calls[call_count].pid) {
			raw_close(sock);
			strangers++;
		} else if (!exec_workers_takes(calls[call_count].pid, sock))
			call_count++;
	}
	while ((refused = exec_workers_next_refusal()))
		strike_out(refused);
	for (size_t i = 0; i < call_count; i++)
		if (drain_owner_hear(calls[i].sock, calls[i].pid)) {
			raw_close(calls[i].sock);
			strike_out(calls[i].pid);
		} else {
			calls[left++] = calls[i];
		}
	call_count = left;
	left = awaited();
	errno = saved_errno;
	return left > call_count ? left : call_count;
}

bool drain_owner_is_empty(int pid)
{
	for (size_t i = 0; i < empty_count; i++)
		if (empty[i] == pid)
			return true;
	return false;
}

size_t drain_owner_passed(struct passed *into, size_t most, struct carry_count *count)
{
	size_t n = collected_count < most ? collected_count : most;

	if (n)
		memcpy(into, collected, n * sizeof(*into));
	count->carried += counts.carried;
	count->closed += counts.closed;
	count->cut += counts.cut;
	return n;
}

/* Lets go of all that a drain holds here; a copy of a connection that is closed ends nothing. */
static void shut_door(void)
{
	raw_close(door);
	door = -1;
	for (size_t i = 0; i < call_count; i++)
		raw_close(calls[i].sock);
	for (size_t i = 0; i < collected_count; i++)
		raw_close(collected[i].fd);
	call_count = collected_count = 0;
}

static void set_nonce(uint64_t nonce)
{
	static cpr_large int pids[ROSTER_MAX];
	struct page_drain *drain = page_shared_drain();
	size_t n = roster_workers(pids, ROSTER_MAX);

	if (!drain)
		return;
	atomic_store(&drain->nonce, nonce);
	for (size_t i = 0; i < n; i++)
		kill(pids[i], cpr__settings.signal);
}

void drain_owner_dismiss(void)
{
	if (door < 0)
		return;
	drain_adopted_give_back();
	shut_door();
	exec_workers_dismiss();
	lift_limit(false);
	set_nonce(0);
}

/*
 * A child that is born in the middle of a drain has copies of what the drain holds. (While that lasts, it is rung as
 * soon as it is found.)
 */
static void drain_owner_forget(void)
{
	drain_worker_forget();
	if (door >= 0)
		shut_door();
	exec_workers_forget();
}

void drain_owner_init(void)
{
	birth_when_born(drain_owner_forget);
}
