/* SPDX-License-Identifier: MIT */
/* The doorbell's handler. It does one thing: it notes the caller, and has the task look. */
#define _GNU_SOURCE
#include "process/doorbell.h"

#include "base/full.h"
#include "base/next.h"
#include "process/active_calls.h"
#include "process/birth.h"
#include "process/guard.h"
#include "process/lent.h"
#include "process/light.h"
#include "process/task.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { CALLERS_MAX = 256 }; /* at once; a caller beyond that gets no answer in time, and says so */

cpr_thread unsigned doorbell_rings;

/* A forked child finds this cleared: what rang was its parent's. */
static cpr_touched struct rung {
	_Atomic uint64_t nonces[CALLERS_MAX]; /* 0: free */
	_Atomic bool restart;
	_Atomic bool full;
} *rung;

static void (*when_heard)(int fd);
static bool (*when_foreign)(int sig, siginfo_t *info, void *context);
/* as the program asked for its own handler of this signal, if it has one */
static _Atomic int flags_of_handler = SA_RESTART | SA_ONSTACK;

void doorbell_when_heard(void (*heard)(int fd))
{
	when_heard = heard;
}

void doorbell_when_foreign(bool (*deliver)(int sig, siginfo_t *info, void *context))
{
	when_foreign = deliver;
}

/* Marks a ring that makes a thread leave a blocking call. The program cannot send it: only we know this address. */
static const char call_out;

bool doorbell_call_out(int pid, int tid)
{
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	info.si_code = SI_QUEUE;
	info.si_value.sival_ptr = (void *)&call_out;
	return !next_sys(SYS_rt_tgsigqueueinfo, pid, tid, cpr__settings.signal, &info) || errno != ESRCH;
}

/*
 * The signals of a program that uses the doorbell's number: kill(), raise(), timers and queues. A ring of ours is
 * queued by another process, and its value is 64 random bits; sigqueue(3) is mostly used with an int.
 */
static bool is_foreign(const siginfo_t *info)
{
	switch (info->si_code) {
	case SI_QUEUE:
		return (uint64_t)(uintptr_t)info->si_value.sival_ptr <= UINT32_MAX || info->si_pid == getpid();
	case SI_USER:
	case SI_TKILL:
	case SI_TIMER:
	case SI_ASYNCIO:
	case SI_MESGQ:
		return true;
	default:
		return false;
	}
}

bool doorbell_next(uint64_t *nonce)
{
	if (rung && unlikely(atomic_load_explicit(&rung->full, memory_order_relaxed)))
		full_note(FULL_CALLERS, CALLERS_MAX);
	for (int i = 0; rung && i < CALLERS_MAX; i++)
		if (atomic_load_explicit(&rung->nonces[i], memory_order_relaxed) &&
		    (*nonce = atomic_exchange(&rung->nonces[i], 0)))
			return true;
	return false;
}

bool doorbell_waits(void)
{
	for (int i = 0; rung && i < CALLERS_MAX; i++)
		if (atomic_load_explicit(&rung->nonces[i], memory_order_relaxed))
			return true;
	return false;
}

bool doorbell_took_restart(void)
{
	return rung && atomic_load(&rung->restart) && atomic_exchange(&rung->restart, false);
}

/* ---- the handler: every signal is blocked (sa_mask) ---- */

static bool is_noted(uint64_t nonce)
{
	for (int i = 0; i < CALLERS_MAX; i++)
		if (atomic_load_explicit(&rung->nonces[i], memory_order_relaxed) == nonce)
			return true;
	return !nonce;
}

/*
 * Once: a caller that rings without a pause must not take all places. The task says that there was none, not a handler.
 */
static void note_caller(uint64_t nonce)
{
	if (is_noted(nonce))
		return;
	for (int i = 0; i < CALLERS_MAX; i++) {
		uint64_t none = 0;

		if (atomic_compare_exchange_strong(&rung->nonces[i], &none, nonce))
			return;
	}
	atomic_store(&rung->full, true);
}

/*
 * Did this ring, and nothing else, interrupt a system call? Then its wrapper may repeat the call. It is not enough that
 * the doorbell rang. If a signal of the program came at the same time, its handler has set a flag, and the program
 * needs EINTR to look at the flag. Such a signal is either pending (everything is blocked here), or its handler's frame
 * lies below ours. In that case we interrupted the handler's first instruction, and not a call that returns EINTR. A
 * signal may still come between this check and the return to the call. Within these microseconds the program would also
 * miss it between its own check of the flag and poll().
 */
static bool interrupted_alone(const ucontext_t *context)
{
	uint64_t pending = 0, blocked = 0;
	long result = 0;

#if defined(__x86_64__)
	result = context->uc_mcontext.gregs[REG_RAX];
#elif defined(__aarch64__)
	result = (long)context->uc_mcontext.regs[0];
#endif
	if (result != -EINTR)
		return false;
	next_sys(SYS_rt_sigpending, &pending, sizeof(pending));
	memcpy(&blocked, &context->uc_sigmask, sizeof(blocked));
	return !(pending & ~blocked);
}

/*
 * When a drain begins, a thread that sleeps in a read, or is about to, must leave it. A handler without SA_RESTART for
 * that time would also interrupt waitpid, sem_wait and all else in every thread, and a program that asked for
 * SA_RESTART does not expect that. So only this call is interrupted. The kernel would repeat it, from the instruction
 * to which the handler returns. We let the handler return behind that instruction, with EINTR.
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

/*
 * No lock and no wait. One system call (clone or futex), and one more if a call was interrupted that returns EINTR. In
 * an interrupted thread we can wait for nothing. It may hold malloc's lock: a fork() in another thread may wait for
 * that while it holds our lock. Its stack may be an alternate one of 8 KiB, of which the kernel's frame takes 3.5 KiB
 * with AVX-512.
 */
static void rang(int sig, siginfo_t *info, void *context)
{
	int saved_errno = errno;
	bool called_out = info->si_code == SI_QUEUE && info->si_value.sival_ptr == &call_out;
	bool lent = lent_is_timer(info);

	if (when_foreign && sig == cpr__settings.signal && !called_out && !lent && is_foreign(info) &&
	    when_foreign(sig, info, context))
		return;
	if (sig != cpr__settings.signal)
		atomic_store(&rung->restart, true);
	else if (info->si_code == SI_QUEUE && !called_out)
		note_caller((uint64_t)(uintptr_t)info->si_value.sival_ptr);
	else if (info->si_code >= POLL_IN && info->si_code <= POLL_HUP && when_heard)
		when_heard(info->si_fd);
	if (lent)
		task_round_in_handler();
	else if (!called_out)
		task_wake_in_handler();
	if (active_calls_this_comes_out())
		cut_short(context);
	/* last: what came while we were here is pending, and counts as well */
	doorbell_rings += interrupted_alone(context);
	errno = saved_errno;
}

/* ---- the program and its signals ---- */

bool doorbell_owns(int sig)
{
	light_asked(sig);
	return cpr__table && sig &&
	       (sig == cpr__settings.signal || sig == cpr__settings.restart_signal ||
		sig == cpr__settings.replace_signal);
}

void doorbell_spare(sigset_t *set)
{
	if (!cpr__table) {
		if (atomic_load_explicit(&light_start, memory_order_relaxed))
			light_spare(set);
		return;
	}
	sigdelset(set, cpr__settings.signal);
	if (cpr__settings.restart_signal)
		sigdelset(set, cpr__settings.restart_signal);
}

static int hang(int sig)
{
	struct sigaction action = {.sa_sigaction = rang, .sa_flags = SA_SIGINFO | atomic_load(&flags_of_handler)};

	guard_fill(&action.sa_mask);
	return next_sigaction(sig, &action, NULL);
}

void doorbell_serve_program(bool handles, int flags)
{
	int wanted = handles ? flags & (SA_RESTART | SA_ONSTACK) : SA_RESTART | SA_ONSTACK, saved_errno = errno;

	if (atomic_exchange(&flags_of_handler, wanted) != wanted)
		hang(cpr__settings.signal);
	errno = saved_errno;
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

/*
 * nginx starts a new nginx at SIGUSR2, and its package sends that at every upgrade. The supervisor would lose the
 * server to a process that it does not know, and the service ended. So the program's handler is accepted and not
 * installed; this one, which does nothing, is. (SIG_IGN would outlast exec, in everything that the server starts.)
 */
static void overhear(int sig)
{
	(void)sig;
}

static int overhear_replace_signal(void)
{
	const struct sigaction nothing = {.sa_handler = overhear, .sa_flags = SA_RESTART | SA_ONSTACK};

	return cpr__settings.replace_signal ? next_sigaction(cpr__settings.replace_signal, &nothing, NULL) : 0;
}

int doorbell_init(void)
{
	sigset_t ours;

	rung = birth_cleared(sizeof(*rung));
	if (!rung)
		return -ENOMEM;
	if (hang(cpr__settings.signal) || (cpr__settings.restart_signal && hang(cpr__settings.restart_signal)) ||
	    overhear_replace_signal())
		return -errno;
	sigemptyset(&ours);
	sigaddset(&ours, cpr__settings.signal);
	if (cpr__settings.restart_signal)
		sigaddset(&ours, cpr__settings.restart_signal);
	next_sigprocmask(SIG_UNBLOCK, &ours, NULL);
	return 0;
}
