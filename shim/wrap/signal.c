/* SPDX-License-Identifier: MIT */
/*
 * The doorbell's signal is not the program's: handlers, masks and waits of the program leave it out, and nothing
 * tells the program so.
 */
#define _GNU_SOURCE
#include "restart/arrive.h"
#include "process/doorbell.h"
#include "base/next.h"
#include "base/readable.h"
#include "wrap/wrap.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/signalfd.h>

/* What the program believes to have set for a signal of ours. */
static struct sigaction pretended[_NSIG];

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
	struct sigaction before = pretended[sig];

	if (act)
		pretended[sig] = *act;
	if (old)
		*old = before;
	return 0;
}

/* As the kernel has it. */
struct kernel_action {
	next_handler handler;
	unsigned long flags;
	void (*restorer)(void);
	uint64_t mask;
};

static int refuse(int error)
{
	errno = error;
	return -1;
}

long cpr__sigaction_by_number(const long *a)
{
	const struct kernel_action *act = (const struct kernel_action *)a[1];
	struct kernel_action *old = (struct kernel_action *)a[2];
	struct sigaction wanted = {0}, before;

	if (a[3] != _NSIG / 8)
		return refuse(EINVAL);
	if ((act && !readable(act, sizeof(*act))) ||
	    (old && (!readable(old, sizeof(*old)) || !writable_int((const int *)old))))
		return refuse(EFAULT);
	if (act) {
		wanted.sa_handler = act->handler;
		wanted.sa_flags = (int)act->flags;
		memcpy(&wanted.sa_mask, &act->mask, sizeof(act->mask));
	}
	pretend((int)a[0], act ? &wanted : NULL, &before);
	if (old) {
		*old = (struct kernel_action){before.sa_handler, (unsigned)before.sa_flags, NULL, 0};
		memcpy(&old->mask, &before.sa_mask, sizeof(old->mask));
	}
	return 0;
}

/* A handler that blocks the doorbell blocks it for as long as it runs; a program may live in its handler. */
static const struct sigaction *spare_action(const struct sigaction *act, struct sigaction *room)
{
	if (!act)
		return NULL;
	*room = *act;
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

static next_handler pretend_handler(int sig, next_handler handler)
{
	next_handler before = pretended[sig].sa_handler;

	if (handler == SIG_ERR) {
		errno = EINVAL;
		return SIG_ERR;
	}
	pretended[sig] = (struct sigaction){.sa_handler = handler};
	return before;
}

/* The family of signal(2): each has its own flags, so each calls its own. */
#define SIGNAL(name)                                                                                                   \
	CPR_EXPORT next_handler name(int sig, next_handler handler)                                                    \
	{                                                                                                              \
		return doorbell_owns(sig) ? pretend_handler(sig, handler) : next_##name(sig, handler);                 \
	}

SIGNAL(signal)
SIGNAL(ssignal)
SIGNAL(sysv_signal)
SIGNAL(__sysv_signal)
SIGNAL(sigset)

next_handler bsd_signal(int sig, next_handler handler);
SIGNAL(bsd_signal)

CPR_EXPORT int sigignore(int sig)
{
	return doorbell_owns(sig) ? (pretend_handler(sig, SIG_IGN), 0) : next_sigignore(sig);
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
		arrive_waiting();
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
