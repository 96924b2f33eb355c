/* SPDX-License-Identifier: MIT */
/* Several processes. The owner listens on an abstract socket for the time of a drain; its address stands in the page that all of them share. */
#define _GNU_SOURCE
#include "workers.h"

#include "bell.h"
#include "drain.h"
#include "guard.h"
#include "io.h"
#include "log.h"
#include "next.h"
#include "pool.h"
#include "slow.h"
#include "track.h"
#include "words.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	STEP_MS = 5,
	RING_TURNS = 16,
	CALLS_MAX = GUARD_WORKERS_MAX,
	COLLECTED_MAX = 1 << 16,
	ADOPTED_MAX = 1024,
	LOOKED_AT = 32,   /* workers, at a step */
	HEARD_MAX = 4096, /* messages of one worker at a time */
};

/* One message a listener or a connection, with its descriptor; the last has none, and the worker's counts. */
struct message {
	uint32_t last;
	uint32_t listener; /* the descriptor is a socket that this worker has bound: kind, flags and backlog are its entry's */
	uint32_t kind, flags;
	int32_t backlog;
	uint64_t path_dev, path_ino;
	int32_t id;       /* of the listener's tag; name empty: to be closed */
	uint64_t ino;
	uint32_t cut;
	uint32_t empty;   /* it serves connections, and this was all */
	char name[TAG_NAME_MAX + 1];
};

/* ---- the owner ---- */

static int door = -1;              /* where workers connect to */
static cpr_large struct {
	int sock, pid;
} calls[CALLS_MAX];                /* who has, and is not done */
static size_t call_count;
static cpr_large int called[GUARD_WORKERS_MAX];
static cpr_large int rung[GUARD_WORKERS_MAX]; /* who of those is awaited; 0: no more */
static size_t rung_count;
static cpr_large int empty[GUARD_WORKERS_MAX]; /* who has said so */
static size_t empty_count;
static cpr_large int adopted[ADOPTED_MAX];   /* listeners that were the workers' alone */
static size_t adopted_count;
static struct passed *collected;
static size_t collected_count;
static struct carry_count counts;
static cpr_large struct message message;     /* too large for a handler's stack */

static bool open_door(void)
{
	struct sockaddr_un addr;
	uint64_t nonce = 0;
	socklen_t len;

	if (getrandom(&nonce, sizeof(nonce), GRND_NONBLOCK) != sizeof(nonce))
		return false;
	nonce |= 1;
	door = next_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	len = words_address(nonce, &addr);
	if (door < 0 || next_bind(door, (struct sockaddr *)&addr, len) || next_listen(door, CALLS_MAX)) {
		io_close(&door);
		door = -1;
		return false;
	}
	atomic_store(&guard_shared_drain()->nonce, nonce);
	return true;
}

/* Every worker once, also those that are born while the drain is on. */
static void ring_new(void)
{
	static cpr_large int now[GUARD_WORKERS_MAX];
	static unsigned seen;
	static int turn;
	unsigned births = guard_births();
	size_t n;

	if (rung_count && births == seen && ++turn % RING_TURNS) /* to look at each of a thousand takes longer than a step */
		return;
	n = guard_workers(now, GUARD_WORKERS_MAX);
	seen = births;
	for (size_t i = 0; i < n; i++) {
		size_t at = 0;

		while (at < rung_count && called[at] != now[i])
			at++;
		if (at < rung_count || rung_count == GUARD_WORKERS_MAX)
			continue;
		called[rung_count] = now[i];
		rung[rung_count++] = kill(now[i], cpr__settings.signal) ? 0 : now[i];
	}
}

size_t workers_slow(uint64_t survey)
{
	static uint64_t asked;
	static int turn;
	bool ring = asked != survey || ++turn % RING_TURNS == 0; /* again now and then: one may have been born since */
	size_t n;

	atomic_store(&guard_shared_drain()->survey, survey);
	n = guard_workers_not_calm(survey, ring);
	asked = survey;
	return n;
}

void workers_survey_over(void)
{
	atomic_store(&guard_shared_drain()->survey, 0);
}

/*
 * What workers pass comes to this process, whose limit may be for a master that holds nothing (nginx's worker_rlimit_nofile is its workers' only). The exec sets it back, and so does a
 * restart that is called off.
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

size_t workers_call(int64_t deadline)
{
	int kept = errno;

	call_count = rung_count = collected_count = empty_count = adopted_count = 0;
	counts = (struct carry_count){0};
	guard_look_anyway();
	if (!guard_worker_count())
		return 0;
	if (!collected)
		collected = pool_map(COLLECTED_MAX * sizeof(*collected));
	atomic_store(&guard_shared_drain()->deadline, deadline);
	if (collected && open_door()) {
		lift_limit(true);
		ring_new();
	}
	errno = kept;
	return rung_count;
}

static bool is_known(const struct object *object)
{
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (e->object.ino == object->ino && e->object.dev == object->dev)
			return true;
	return false;
}

/* A listener that only workers hold (haproxy's master has none, and a server may bind in each worker) becomes the owner's, for the next generation. */
static void adopt(int fd)
{
	struct guard_hold hold;
	struct object object;
	struct entry *e;
	bool taken = false;

	if (adopted_count < ADOPTED_MAX && message.kind < ENTRY_KINDS && !object_of(fd, &object) && object.domain >= 0 && guard_lock(&hold)) {
		fd = io_move_up(fd, WORDS_HIGH);
		taken = message.name[0] && !is_known(&object) && !table_add_next(cpr__table, message.name, fd, &e);
		if (taken) {
			e->kind = message.kind;
			e->flags = message.flags & ENTRY_SAVED_FLAGS & ~(unsigned)(ENTRY_ORPHAN | ENTRY_INHERITED);
			e->backlog = message.backlog;
			e->path_dev = message.path_dev;
			e->path_ino = message.path_ino;
			e->object = object;
			adopted[adopted_count++] = fd;
		}
		guard_unlock(&hold);
	}
	if (!taken)
		next_close(fd);
}

/* Called off: they are the workers' again. */
static void give_back_adopted(void)
{
	struct guard_hold hold;

	if (!adopted_count || !guard_lock(&hold))
		return;
	while (adopted_count) {
		int fd = adopted[--adopted_count];

		table_forget_fd(cpr__table, fd);
		next_close(fd);
	}
	guard_unlock(&hold);
}

static void collect(int fd)
{
	struct entry *e = message.name[0] ? table_find(cpr__table, message.name, message.id) : NULL;
	bool carried = e && e->flags & ENTRY_KEPT && carry_has_room_for(e, fd, collected, collected_count);

	if (collected_count == COLLECTED_MAX) {
		next_close(fd);
		return;
	}
	*(carried ? &counts.carried : &counts.closed) += 1;
	collected[collected_count++] = (struct passed){.fd = fd, .listener = carried ? e->fd : -1, .ino = message.ino};
}

/* True when this worker has said all. */
static bool hear(int sock, int pid)
{
	ssize_t n;
	int fd;

	for (int i = 0; i < HEARD_MAX; i++) {
		n = io_receive(sock, &message, sizeof(message), &fd);
		if (n == -EAGAIN)
			return false;
		if (n <= 0) /* it died */
			return true;
		if (n == sizeof(message) && !message.last && !message.listener && fd < 0) /* there was no number free for it: it ends with the worker */
			counts.cut++;
		if (n == sizeof(message) && !message.last && fd >= 0 && memchr(message.name, '\0', sizeof(message.name))) {
			if (message.listener)
				adopt(fd);
			else
				collect(fd);
			continue;
		}
		io_close(&fd);
		if (n == sizeof(message) && message.last) {
			counts.cut += message.cut;
			if (message.empty && empty_count < GUARD_WORKERS_MAX)
				empty[empty_count++] = pid;
			return true;
		}
	}
	return false; /* more at the next tick */
}

/* Its pid, or 0: who is no worker is not heard. One that has ended since is: it has passed on what it had. */
static int caller_pid(int sock)
{
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		return 0;
	if (guard_is_worker(peer.pid))
		return peer.pid;
	log_warn("process %d, which is no worker, wanted to pass connections: not heard", peer.pid);
	return 0;
}

/* Rung, and neither finished nor gone. Whether they are gone is asked of a few at a time. */
static size_t awaited(void)
{
	static size_t looked_at;
	size_t n = 0;

	for (size_t i = 0; i < LOOKED_AT && i < rung_count; i++) {
		size_t at = looked_at++ % rung_count;

		if (rung[at] && !guard_start_time(rung[at]))
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

size_t workers_collect(void)
{
	size_t left = 0;
	int kept = errno, sock;

	if (door < 0)
		return 0;
	ring_new();
	while (call_count < CALLS_MAX && (sock = next_accept4(door, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		calls[call_count].sock = sock;
		calls[call_count].pid = caller_pid(sock);
		if (calls[call_count].pid)
			call_count++;
		else
			next_close(sock);
	}
	for (size_t i = 0; i < call_count; i++)
		if (hear(calls[i].sock, calls[i].pid)) {
			next_close(calls[i].sock);
			strike_out(calls[i].pid);
		} else {
			calls[left++] = calls[i];
		}
	call_count = left;
	left = awaited();
	errno = kept;
	return left > call_count ? left : call_count;
}

bool workers_is_empty(int pid)
{
	for (size_t i = 0; i < empty_count; i++)
		if (empty[i] == pid)
			return true;
	return false;
}

size_t workers_passed(struct passed *into, size_t most, struct carry_count *count)
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
	next_close(door);
	door = -1;
	for (size_t i = 0; i < call_count; i++)
		next_close(calls[i].sock);
	for (size_t i = 0; i < collected_count; i++)
		next_close(collected[i].fd);
	call_count = collected_count = 0;
}

static void set_nonce(uint64_t nonce)
{
	static cpr_large int pids[GUARD_WORKERS_MAX];
	size_t n = guard_workers(pids, GUARD_WORKERS_MAX);

	atomic_store(&guard_shared_drain()->nonce, nonce);
	for (size_t i = 0; i < n; i++)
		kill(pids[i], cpr__settings.signal);
}

void workers_dismiss(void)
{
	if (door < 0)
		return;
	give_back_adopted();
	shut_door();
	lift_limit(false);
	set_nonce(0);
}

/* ---- a worker ---- */

static cpr_touched uint64_t draining_for; /* the nonce of the drain that this worker is in */
static bool passed_on;
static struct passed *mine;   /* what it has passed on, and holds frozen until the owner execs: a restart that is called off gives it back */
static cpr_touched size_t mine_count;

enum { SLOW_STEP_MS = 200, DEAD_MS = 2000 };

/*
 * The number stays taken, by a socket whose other end is gone: the program believes that its connection is there, and finds it ended if it looks, until it is told
 * to leave.
 */
static void let_go(int fd)
{
	static int ended = -1;
	int pair[2];

	for (int twin = conn_next_twin(fd, 0); twin >= 0; twin = conn_next_twin(fd, twin + 1))
		let_go(twin);
	conn_end(fd);
	if (ended < 0 && !next_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair)) {
		next_close(pair[1]);
		ended = io_move_up(pair[0], fd + 1);
	}
	if (ended < 0 || next_dup3(ended, fd, O_CLOEXEC) < 0)
		next_close(fd);
}

static bool tell(int sock, const struct passed *p)
{
	const struct entry *e = p->listener >= 0 ? track_listener(p->listener) : NULL;

	memset(&message, 0, sizeof(message));
	message.ino = p->ino;
	if (e) {
		message.id = e->id;
		memcpy(message.name, e->name, strlen(e->name) + 1);
	}
	return !io_send(sock, &message, sizeof(message), p->fd);
}

/* What this worker has bound: the owner sees by the inode what it holds itself. */
static void tell_listeners(int sock)
{
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	track_check_all(false);
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e)) {
		if (!(e->flags & ENTRY_KEPT) || e->flags & ENTRY_ORPHAN || (e->kind != ENTRY_STREAM && e->kind != ENTRY_DATAGRAM))
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

static void pass_on(void)
{
	cleanup_fd int sock = bell_answer(draining_for);
	struct carry_count count = {0};
	size_t n = 0;

	mine = mine ? mine : pool_map(COLLECTED_MAX * sizeof(*mine));
	if (sock >= 0)
		tell_listeners(sock);
	if (mine && sock >= 0)
		n = carry_choose(mine, COLLECTED_MAX, false, &count);
	for (mine_count = 0; mine_count < n && tell(sock, &mine[mine_count]); mine_count++)
		;
	memset(&message, 0, sizeof(message));
	message.last = 1;
	message.cut = (uint32_t)count.cut;
	message.empty = !count.cut && drain_serves();
	if (sock >= 0)
		io_send(sock, &message, sizeof(message), -1);
	else
		log_warn("this worker could not pass its connections on: they end with it");
	passed_on = true;
}

static void end_drain(void)
{
	draining_for = 0;
	drain_thaw();
}

/*
 * Nobody is left to retire this worker: it serves on. Once the owner has gone on to exec, lateness says nothing: the next generation may take its time to be ready, and a
 * worker that accepted then would take clients with it when it is told to leave. An owner that execs looks dead for a moment: its first thread ends before the one that execs takes its place.
 */
static bool is_abandoned(void)
{
	static int dead_ticks;
	int64_t late = atomic_load(&guard_shared_drain()->deadline) + cpr__settings.ready_timeout_s * INT64_C(1000000000);

	dead_ticks = guard_start_time(guard_owner()) ? 0 : dead_ticks + 1;
	return dead_ticks * SLOW_STEP_MS > DEAD_MS || (io_now() > late && atomic_load(&guard_shared_drain()->nonce) != GUARD_GONE);
}

static void let_all_go(void)
{
	bool any = mine_count;

	while (mine_count)
		let_go(mine[--mine_count].fd);
	if (any)
		drain_wake(); /* who is parked on one of them finds its end */
}

/* The next generation has ended, before it could tell this worker to leave, or before it did: nobody else would, and it holds the listener. */
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

static void begin(uint64_t nonce)
{
	draining_for = nonce;
	passed_on = false;
	mine_count = 0;
	track_settle();
	drain_begin();
}

/* ms until the next look. */
static int go_on(void)
{
	size_t going = passed_on ? 0 : drain_busy() + drain_call_out();

	bool late = io_now() >= atomic_load(&guard_shared_drain()->deadline);

	if (!passed_on && ((going && !late) || !drain_close(late)))
		return STEP_MS;
	if (!passed_on)
		pass_on();
	return SLOW_STEP_MS;
}

/* Before the drain: has it slow requests? True: look again. */
static bool survey(void)
{
	static uint64_t begun, told;
	uint64_t asked = atomic_load(&guard_shared_drain()->survey);

	if (!asked || asked == told)
		return false;
	if (begun != asked)
		slow_begin();
	begun = asked;
	if (slow_left())
		return true;
	told = asked;
	guard_worker_calm(asked);
	return false;
}

/* ms until the next look; 0: there is nothing to do. */
static int look(uint64_t nonce)
{
	bool slow = survey();


	if (nonce == GUARD_GONE && draining_for)
		let_all_go();
	if (draining_for && nonce != GUARD_GONE && draining_for != nonce)
		end_drain();
	if (nonce && nonce != GUARD_GONE && !draining_for)
		begin(nonce);
	if (draining_for && is_abandoned()) {
		if (nonce == GUARD_GONE) {
			leave_too();
			return SLOW_STEP_MS;
		}
		log_warn("the owner of this worker is gone in the middle of a restart: it serves on alone");
		end_drain();
	}
	return draining_for ? go_on() : slow ? STEP_MS : 0;
}

/* A ring that comes while another thread looks is not lost: it may be the one that says that the owner has gone, and what this worker has passed is not its own any more. */
void workers_tick(void)
{
	static atomic_flag ticking = ATOMIC_FLAG_INIT;
	static _Atomic bool rung_meanwhile;
	struct guard_drain *drain = guard_shared_drain();
	int again = 0;

	if (!drain || guard_owner() == getpid() || (!atomic_load(&drain->nonce) && !draining_for && !atomic_load(&drain->survey)))
		return;
	atomic_store(&rung_meanwhile, true);
	while (atomic_load(&rung_meanwhile) && !atomic_flag_test_and_set(&ticking)) {
		atomic_store(&rung_meanwhile, false);
		again = look(atomic_load(&drain->nonce));
		atomic_flag_clear(&ticking);
	}
	if (again)
		bell_tick_in(BELL_WORKER, again);
}

/* A child that is born in the middle of a drain has copies of what the drain holds. (While that lasts, it is rung as soon as it is found.) */
static void forget_drain(void)
{
	draining_for = 0;
	mine_count = 0;
	if (door >= 0)
		shut_door();
}

void workers_init(void)
{
	guard_when_born(forget_drain);
}
