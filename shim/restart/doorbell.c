/* SPDX-License-Identifier: MIT */
/* The doorbell's handler: async-signal-safe, whatever it is asked. */
#define _GNU_SOURCE
#include "restart/doorbell.h"

#include "restart/arrive.h"
#include "process/roster.h"
#include "process/birth.h"
#include "process/bell.h"
#include "fd/conn.h"
#include "deliver/queue.h"
#include "drain/drain.h"
#include "process/guard.h"
#include "base/io.h"
#include "process/procinfo.h"
#include "base/log.h"
#include "base/next.h"
#include "process/startup.h"
#include "base/pool.h"
#include "base/raw.h"
#include "restart/ready.h"
#include "restart/restart.h"
#include "fd/tagging.h"
#include "model/protocol.h"
#include "restart/drain_worker.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef CPR_VERSION
#define CPR_VERSION "0"
#endif

#define MS INT64_C(1000000)

enum { NOTED_MAX = 8 };


/* What rang while this thread was inside the shim. More than NOTED_MAX at once: those callers hear nothing, and say so. */
static cpr_thread uint64_t noted[NOTED_MAX];
static cpr_thread int noted_count;
static cpr_thread bool noted_tick, noted_restart;

/* One call's memory: a handler's stack may be the program's alternate one, of a few KiB. */
struct call {
	struct protocol_request request;
	char answer[PROTOCOL_ANSWER_MAX];
	char reason[1024];
	int sock;
	struct text text;
};

static void put_command(struct text *t)
{
	char command[512];
	struct text c = TEXT_ON(command);

	for (char **arg = cpr__startup.argv; *arg; arg++) {
		if (arg != cpr__startup.argv)
			text_add(&c, " ");
		text_add(&c, *arg);
	}
	protocol_put(t, "command", command);
}

static void put_counts(struct text *t)
{
	size_t kept = 0, orphans = 0;
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	tagging_check_all(false);
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e)) {
		kept += e->flags & ENTRY_KEPT && !(e->flags & ENTRY_ORPHAN);
		orphans += !!(e->flags & ENTRY_ORPHAN);
	}
	guard_unlock(&hold);
	protocol_put_int(t, "descriptors", (int64_t)kept);
	protocol_put_int(t, "orphans", (int64_t)orphans);
}

/* This process's own, and how many more must be asked for theirs. */
static void put_connections(struct text *t)
{
	int64_t now = io_now();
	int64_t all = 0, fresh = 0, idle = 0;

	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);

		all++;
		if (c && conn_untouched(c))
			fresh++;
		else if (c && conn_at_boundary(c, now))
			idle++;
	}
	protocol_put_int(t, "workers", roster_elect() ? (int64_t)roster_worker_count() : 0);
	protocol_put_int(t, "connections", all);
	protocol_put_int(t, "connections_fresh", fresh);
	protocol_put_int(t, "connections_idle", idle);
	protocol_put_int(t, "connections_busy", all - fresh - idle);
	protocol_put_int(t, "connections_waiting", (int64_t)deliver_count());
}

static void answer_status(struct call *call)
{
	struct text *t = &call->text;
	int64_t now = io_now();
	bool owner = roster_elect();

	protocol_put(t, "result", "ok");
	protocol_put_int(t, "pid", getpid());
	protocol_put_int(t, "owner", roster_owner());
	protocol_put(t, "role", owner ? "owner" : "worker");
	protocol_put_int(t, "generation", arrive_generation());
	protocol_put(t, "mode", cpr__settings.supervisor ? "handover" : "exec");
	if (cpr__settings.supervisor)
		protocol_put_int(t, "supervisor", cpr__settings.supervisor);
	protocol_put_int(t, "uptime_ms", (now - arrive_first_at()) / MS);
	protocol_put_int(t, "generation_ms", (now - arrive_started_at()) / MS);
	put_command(t);
	if (cpr__startup.directory)
		protocol_put(t, "directory", cpr__startup.directory);
	if (cpr__settings.test)
		protocol_put(t, "test", cpr__settings.test);
	put_counts(t);
	put_connections(t);
	protocol_put_int(t, "restarts", arrive_generation() - 1);
	if (owner && arrive_generation() > 1 && ready_reached()) {
		protocol_put_int(t, "last_restart_ms", ready_last().took_us / 1000);
		protocol_put_int(t, "last_restart_drain_ms", ready_last().drain_us / 1000);
		protocol_put_int(t, "last_restart_carried", ready_last().carried);
		protocol_put_int(t, "last_restart_closed", ready_last().closed);
		protocol_put_int(t, "last_restart_cut", ready_last().cut);
	}
	protocol_put_int(t, "arriving", owner && !ready_reached());
	protocol_put_int(t, "draining", restart_under_way() || drain_active);
	protocol_put_int(t, "signal", cpr__settings.signal);
	protocol_put(t, "version", CPR_VERSION);
	io_send(call->sock, t->bytes, t->used, -1);
}

static void answer_list(struct call *call)
{
	struct state state = {.generation = (uint32_t)arrive_generation(), .first_at = arrive_first_at(), .table = cpr__table,
			      .heirlooms = cpr__startup.heirlooms, .heirloom_count = cpr__startup.heirloom_count};
	cleanup_fd int fd = -1;
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	tagging_check_all(false);
	fd = state_write(&state, true);
	guard_unlock(&hold);
	protocol_put(&call->text, "result", fd < 0 ? "failed" : "ok");
	if (fd < 0) {
		errno = -fd;
		text_format(&call->text, "reason=the list could not be written: %m\n");
	}
	put_connections(&call->text);
	io_send(call->sock, call->text.bytes, call->text.used, fd);
}

static void say(struct call *call, const char *result, const char *reason)
{
	call->text = text_on(call->answer, sizeof(call->answer));
	protocol_put(&call->text, "result", result);
	if (reason && *reason)
		protocol_put(&call->text, "reason", reason);
	io_send(call->sock, call->text.bytes, call->text.used, -1);
}

static void say_leaving(void *arg)
{
	struct call *call = arg;

	say(call, "leaving", NULL);
}

static void end_call(struct call *call)
{
	raw_close(call->sock);
	pool_unmap(call, sizeof(*call));
}

static void say_failed(struct call *call, int result, const char *why)
{
	if (result == -EBUSY)
		say(call, "busy", "a restart is under way already");
	else
		say(call, result == -EPERM ? "refused" : "failed", why);
	if (result != -EBUSY)
		log_error("the restart was called off: %s", why);
}

/* The drain is over, and so was the exec: back to serving. */
static void restart_is_over(void *arg, int result, const char *why)
{
	say_failed(arg, result, why);
	end_call(arg);
}

/* True if the call goes on after this: until the drain is over. */
static bool answer_restart(struct call *call, uint64_t nonce)
{
	struct leave_request request = {.nonce = nonce, .asked_at = io_now(), .path = call->request.path[0] ? call->request.path : NULL,
					.leaving = say_leaving, .arg = call};
	struct text why = TEXT_ON(call->reason);
	int r;

	if (!roster_elect()) {
		protocol_put(&call->text, "result", "worker");
		protocol_put_int(&call->text, "owner", roster_owner());
		io_send(call->sock, call->text.bytes, call->text.used, -1);
		return false;
	}
	r = ready_reached() && !drain_worker_is_told() ? restart_begin(&request, restart_is_over, &why) : -EBUSY;
	if (r)
		say_failed(call, r, call->reason);
	return !r;
}

/* True if the connection is the worker's from here on. */
static bool answer_drain(struct call *call)
{
	bool concerned = drain_worker_is_concerned(&call->request);
	const char *why = !concerned ? NULL : restart_under_way() ? "a restart is under way" : drain_worker_told(call->sock, &call->request);

	say(call, !concerned ? "none" : why ? "refused" : "ok", why);
	if (!concerned || why)
		return false;
	pool_unmap(call, sizeof(*call));
	drain_worker_tick();
	return true;
}

static void answer_join(struct call *call)
{
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);

	if (getsockopt(call->sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) || !procinfo_descends(peer.pid, getpid()))
		say(call, "refused", "this process has not started who asks");
	else
		deliver_share(call->sock, call->request.join.ino);
}

static void answer_caller(uint64_t nonce)
{
	struct call *call = pool_map(sizeof(*call));

	if (!call)
		return;
	call->sock = bell_answer(nonce);
	if (call->sock >= 0) {
		call->text = text_on(call->answer, sizeof(call->answer));
		if (io_receive(call->sock, &call->request, sizeof(call->request), NULL) != sizeof(call->request) ||
		    protocol_check(&call->request, sizeof(call->request)))
			say(call, "refused", "this is no request that this version of cpr knows");
		else if (call->request.verb == PROTOCOL_STATUS)
			answer_status(call);
		else if (call->request.verb == PROTOCOL_LIST)
			answer_list(call);
		else if (call->request.verb == PROTOCOL_RESTART) {
			if (answer_restart(call, nonce))
				return;
		} else if (call->request.verb == PROTOCOL_DRAIN) {
			if (answer_drain(call))
				return;
		} else if (call->request.verb == PROTOCOL_JOIN)
			answer_join(call);
		else
			say(call, "refused", "retiring is handover mode's, and this process runs in exec mode");
		raw_close(call->sock);
	}
	pool_unmap(call, sizeof(*call));
}

static void signalled_is_over(void *arg, int result, const char *why)
{
	(void)arg;
	(void)result;
	log_error("the restart by signal was called off: %s", why);
}

static void restart_by_signal(void)
{
	struct leave_request request = {.asked_at = io_now()};
	char reason[512];
	struct text why = TEXT_ON(reason);
	int r = !roster_elect() || !ready_reached() || drain_worker_is_told() ? -EBUSY : restart_begin(&request, signalled_is_over, &why);

	if (r && r != -EBUSY)
		log_error("the restart by signal was called off: %s", reason);
}

static void answer_noted(void)
{
	while (noted_count) {
		uint64_t nonce = noted[--noted_count];

		answer_caller(nonce);
	}
	if (noted_tick) {
		noted_tick = false;
		arrive_tick();
		restart_tick();
		drain_worker_tick();
	}
	if (noted_restart) {
		noted_restart = false;
		restart_by_signal();
	}
}

/*
 * Was a system call cut short by this ring and by nothing else? Then its wrapper may call it again. The obvious test, that the doorbell rang, is
 * wrong when a signal of the program's was delivered at the same time: its handler has set a flag, and the program waits for EINTR to look
 * at it. Such a signal is either still pending (everything is blocked here), or its handler's frame lies below ours: then what we interrupted is that
 * handler's first instruction, and not a call that says EINTR. What is left is a signal that comes between this look and the return to the call: some millionths of a
 * second, in which the program's own look at its flag before poll() would have missed it, too.
 */
static bool interrupted_alone(const ucontext_t *context)
{
	uint64_t pending = 0, blocked = 0;
	long result = 0;

	next_sys(SYS_rt_sigpending, &pending, sizeof(pending));
	memcpy(&blocked, &context->uc_sigmask, sizeof(blocked));
#if defined(__x86_64__)
	result = context->uc_mcontext.gregs[REG_RAX];
#elif defined(__aarch64__)
	result = (long)context->uc_mcontext.regs[0];
#endif
	return result == -EINTR && !(pending & ~blocked);
}

/*
 * A thread that sleeps in a read, or is about to, has to come out of it when a drain begins. To install the handler without SA_RESTART for that time would end waitpid,
 * sem_wait and everything else in every thread as well, which no program expects that asked for SA_RESTART. So only this call is cut short, here: the kernel is going
 * to make it again, from the instruction at which the handler returns; let it return behind that, with EINTR.
 */
static void cut_short(ucontext_t *context)
{
#if defined(__x86_64__)
	greg_t *regs = context->uc_mcontext.gregs;
	const unsigned char *at = (const unsigned char *)regs[REG_RIP];

	if (at[0] == 0x0f && at[1] == 0x05) { /* syscall */
		regs[REG_RIP] += 2;
		regs[REG_RAX] = -EINTR;
	}
#elif defined(__aarch64__)
	if (*(const uint32_t *)context->uc_mcontext.pc == 0xd4000001) { /* svc #0 */
		context->uc_mcontext.pc += 4;
		context->uc_mcontext.regs[0] = (unsigned long)-EINTR;
	}
#else
	(void)context; /* it is waited for until --drain, and then cut */
#endif
}

/* The kernel's ring for a descriptor (F_SETSIG). */
static bool is_heard(const siginfo_t *info)
{
	bool heard = info->si_code >= POLL_IN && info->si_code <= POLL_HUP;

	if (heard)
		deliver_heard(info->si_fd);
	return heard;
}

/* Every signal is blocked here (sa_mask). */
static void rang(int sig, siginfo_t *info, void *context)
{
	int saved_errno = errno;

	if (!birth_own_memory()) /* a vfork child: this is its parent's memory, and the ring was not for it */
		return;
	guard_noted = guard_depth > 0;
	if (sig == cpr__settings.signal && info->si_code == SI_QUEUE && noted_count < NOTED_MAX)
		noted[noted_count++] = (uint64_t)(uintptr_t)info->si_value.sival_ptr;
	else if (sig == cpr__settings.signal)
		noted_tick |= info->si_code == SI_TIMER || info->si_code == SI_USER || is_heard(info); /* SI_USER: the owner's ring for its workers */
	else
		noted_restart = true;
	if (!guard_noted)
		answer_noted();
	if (drain_wants_out())
		cut_short(context);
	/* last: what came while we answered is pending, and counts as well */
	doorbell_rings += interrupted_alone(context);
	errno = saved_errno;
}

bool doorbell_owns(int sig)
{
	return cpr__table && sig && (sig == cpr__settings.signal || sig == cpr__settings.restart_signal);
}

void doorbell_spare(sigset_t *set)
{
	if (!cpr__table)
		return;
	sigdelset(set, cpr__settings.signal);
	if (cpr__settings.restart_signal)
		sigdelset(set, cpr__settings.restart_signal);
}

static int hang(int sig)
{
	struct sigaction action = {.sa_sigaction = rang, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};

	guard_fill(&action.sa_mask);
	return next_sigaction(sig, &action, NULL);
}

void doorbell_mute(bool on)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	int saved_errno = errno;

	if (cpr__table && on)
		next_sigaction(cpr__settings.signal, &ignore, NULL);
	else if (cpr__table)
		hang(cpr__settings.signal);
	errno = saved_errno;
}

int doorbell_init(void)
{
	sigset_t ours;

	guard_when_noted(answer_noted);
	if (hang(cpr__settings.signal) || (cpr__settings.restart_signal && hang(cpr__settings.restart_signal)))
		return -errno;
	sigemptyset(&ours);
	sigaddset(&ours, cpr__settings.signal);
	if (cpr__settings.restart_signal)
		sigaddset(&ours, cpr__settings.restart_signal);
	next_sigprocmask(SIG_UNBLOCK, &ours, NULL);
	return 0;
}
