/* SPDX-License-Identifier: MIT */
/*
 * The doorbell's signal is not the program's: handlers, masks and waits of the program leave it out, and nothing
 * tells the program so.
 */
#define _GNU_SOURCE
#include "restart/arrive.h"
#include "process/birth.h"
#include "process/doorbell.h"
#include "process/guard.h"
#include "base/next.h"
#include "base/readable.h"
#include "wrap/wrap.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <stdatomic.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <ucontext.h>

enum { SLOTS = 4 };

/*
 * What the program has set for a signal of ours, as it sees it. The handler may read it while another thread writes, so
 * each change goes into the next slot.
 */
static struct pretended {
	struct sigaction slots[SLOTS];
	_Atomic unsigned now;
} pretended[_NSIG];

static struct sigaction *pretended_for(int sig)
{
	return &pretended[sig].slots[atomic_load(&pretended[sig].now) % SLOTS];
}

/* A child of vfork, which has its parent's memory, must change nothing there. */
static void pretend_from_now(int sig, const struct sigaction *act)
{
	unsigned next = atomic_load(&pretended[sig].now) + 1;

	if (!birth_is_own())
		return;
	memcpy(&pretended[sig].slots[next % SLOTS], act, sizeof(*act));
	atomic_store(&pretended[sig].now, next);
	if (sig == cpr__settings.signal)
		doorbell_serve_program(act->sa_handler != SIG_DFL && act->sa_handler != SIG_IGN, act->sa_flags);
}

/*
 * As the kernel calls a handler: with the mask of what it interrupted, its own, and this signal. The mask is set back
 * by the return from our handler, below.
 */
static bool deliver_to_program(int sig, siginfo_t *info, void *context)
{
	struct sigaction act = *pretended_for(sig), reset = act;
	const ucontext_t *interrupted = context;
	uint64_t mask, more;

	if (act.sa_handler == SIG_DFL || act.sa_handler == SIG_IGN)
		return false;
	reset.sa_handler = SIG_DFL;
	if (act.sa_flags & (int)SA_RESETHAND)
		pretend_from_now(sig, &reset);
	memcpy(&mask, &interrupted->uc_sigmask, sizeof(mask));
	memcpy(&more, &act.sa_mask, sizeof(more));
	mask |= more | (act.sa_flags & SA_NODEFER ? 0 : UINT64_C(1) << (sig - 1));
	next_sys(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, _NSIG / 8);
	if (act.sa_flags & SA_SIGINFO)
		act.sa_sigaction(sig, info, context);
	else
		act.sa_handler(sig);
	return true;
}

void cpr__deliver_own_signals(void)
{
	doorbell_when_foreign(deliver_to_program);
}

const sigset_t *cpr__spared(const sigset_t *mask, sigset_t *room)
{
	if (!mask || !readable(mask, _NSIG / 8))
		return mask;
	/* by the kernel's length: a mask that came through syscall(2) is no longer than that */
	sigemptyset(room);
	memcpy(room, mask, _NSIG / 8);
	doorbell_spare(room);
	return room;
}

static int pretend(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct sigaction before = *pretended_for(sig), wanted;

	if (act) { /* neither need be aligned, as with libc's */
		memcpy(&wanted, act, sizeof(wanted));
		pretend_from_now(sig, &wanted);
	}
	if (old)
		memcpy(old, &before, sizeof(before));
	return 0;
}

/* As the kernel has it. */
struct kernel_action {
	next_handler handler;
	unsigned long flags;
	void (*restorer)(void);
	uint64_t mask;
};

static int signal_refuse(int error)
{
	errno = error;
	return -1;
}

long cpr__sigaction_by_number(const long *a)
{
	const void *act = (const void *)a[1];
	void *old = (void *)a[2]; /* neither need be aligned: the kernel copies */
	const int *first = (const int *)(a[2] & ~3L);
	struct kernel_action theirs = {0};
	struct sigaction wanted = {0}, before;

	if (a[3] != _NSIG / 8)
		return signal_refuse(EINVAL);
	if ((act && !readable(act, sizeof(theirs))) ||
	    (old && (!readable(old, sizeof(theirs)) || !writable_int(first))))
		return signal_refuse(EFAULT);
	if (act) {
		memcpy(&theirs, act, sizeof(theirs));
		wanted.sa_handler = theirs.handler;
		wanted.sa_flags = (int)theirs.flags;
		memcpy(&wanted.sa_mask, &theirs.mask, sizeof(theirs.mask));
	}
	pretend((int)a[0], act ? &wanted : NULL, &before);
	if (old) {
		theirs = (struct kernel_action){before.sa_handler, (unsigned)before.sa_flags, NULL, 0};
		memcpy(&theirs.mask, &before.sa_mask, sizeof(theirs.mask));
		memcpy(old, &theirs, sizeof(theirs));
	}
	return 0;
}

/* A handler that blocks the doorbell blocks it for as long as it runs; a program may live in its handler. */
static const struct sigaction *spare_action(const struct sigaction *act, struct sigaction *room)
{
	if (!act)
		return NULL;
	memcpy(room, act, sizeof(*room)); /* it may stand at an address at which a struct may not */
	doorbell_spare(&room->sa_mask);
	return room;
}

CPR_EXPORT int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct sigaction room;

	return doorbell_owns(sig) ? pretend(sig, act, old) : next_sigaction(sig, spare_action(act, &room), old);
}

CPR_EXPORT int __sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	return sigaction(sig, act, old);
}

static next_handler pretend_handler(int sig, next_handler handler, int flags)
{
	struct sigaction act = {.sa_handler = handler, .sa_flags = flags};
	next_handler before = pretended_for(sig)->sa_handler;

	if (handler == SIG_ERR) {
		errno = EINVAL;
		return SIG_ERR;
	}
	pretend_from_now(sig, &act);
	return before;
}

/* The family of signal(2): each has its own flags, so each calls its own. */
#define SIGNAL(name, flags)                                                                                            \
	CPR_EXPORT next_handler name(int sig, next_handler handler)                                                    \
	{                                                                                                              \
		return doorbell_owns(sig) ? pretend_handler(sig, handler, flags) : next_##name(sig, handler);          \
	}

SIGNAL(signal, SA_RESTART)
SIGNAL(ssignal, SA_RESTART)
SIGNAL(sysv_signal, (int)SA_RESETHAND | SA_NODEFER)
SIGNAL(__sysv_signal, (int)SA_RESETHAND | SA_NODEFER)
SIGNAL(sigset, 0)

next_handler bsd_signal(int sig, next_handler handler);
SIGNAL(bsd_signal, SA_RESTART)

CPR_EXPORT int sigignore(int sig)
{
	return doorbell_owns(sig) ? (pretend_handler(sig, SIG_IGN, 0), 0) : next_sigignore(sig);
}

CPR_EXPORT int sighold(int sig)
{
	return doorbell_owns(sig) ? 0 : next_sighold(sig);
}

CPR_EXPORT int siginterrupt(int sig, int on)
{
	return doorbell_owns(sig) ? 0 : next_siginterrupt(sig, on);
}

CPR_EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	sigset_t room;

	return next_sigprocmask(how, how == SIG_UNBLOCK ? set : cpr__spared(set, &room), old);
}

CPR_EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	sigset_t room;

	return next_pthread_sigmask(how, how == SIG_UNBLOCK ? set : cpr__spared(set, &room), old);
}

/* A program that waits only for its signals is ready when it does so. */
static const sigset_t *to_wait_for(const sigset_t *set, sigset_t *room)
{
	if (unlikely(generation_is_settling))
		arrive_waiting(AWAITED_WORK);
	return cpr__spared(set, room);
}

CPR_EXPORT int sigwait(const sigset_t *set, int *sig)
{
	sigset_t room;

	return next_sigwait(to_wait_for(set, &room), sig);
}

/* These say EINTR after any other handler; after the doorbell's alone they wait on. */
CPR_EXPORT int sigwaitinfo(const sigset_t *set, siginfo_t *info)
{
	unsigned rings;
	sigset_t room;
	int r;

	do {
		const sigset_t *spared = to_wait_for(set, &room);

		rings = doorbell_rings;
		r = next_sigwaitinfo(spared, info);
	} while (doorbell_only_rang(r, rings));
	return r;
}

CPR_EXPORT int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
{
	int64_t began = cpr__began(timeout);
	const struct timespec *left = timeout;
	struct timespec room_left;
	sigset_t room;

	for (;;) {
		const sigset_t *spared = to_wait_for(set, &room);
		unsigned rings = doorbell_rings;
		int r = next_sigtimedwait(spared, info, left);

		if (!doorbell_only_rang(r, rings))
			return r;
		left = cpr__left(timeout, began, &room_left);
	}
}

CPR_EXPORT int signalfd(int fd, const sigset_t *set, int flags)
{
	sigset_t room;

	return next_signalfd(fd, cpr__spared(set, &room), flags);
}

CPR_EXPORT int sigsuspend(const sigset_t *mask)
{
	unsigned rings;
	sigset_t room;
	int r;

	do {
		const sigset_t *spared = to_wait_for(mask, &room);

		rings = doorbell_rings;
		r = next_sigsuspend(spared);
	} while (doorbell_only_rang(r, rings));
	return r;
}

CPR_EXPORT int __sigsuspend(const sigset_t *mask)
{
	return sigsuspend(mask);
}
