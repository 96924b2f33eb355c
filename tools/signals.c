/* SPDX-License-Identifier: MIT */
/* The signals of a supervisor: its children's ends, cprctl's ring, what is the server's. */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include <errno.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const int forwarded[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};

static void restart_by_signal(struct supervisor *s)
{
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);

	if (handover_begin(s, NULL, &why))
		supervisor_say("the restart by signal was called off: %s", reason);
}

/* The terminal's own go to the whole process group: the server has got them already. */
static void forward(struct supervisor *s, int signo, bool by_kernel)
{
	if (signo == SIGTERM) {
		notify_phase(s, "STOPPING");
		if (!fdstore_leave(s))
			lives_end_all(s, signo);
		return;
	}
	if (!s->serving)
		return;
	if (signo == SIGINT || signo == SIGQUIT || signo == SIGHUP) {
		s->serving->signalled = true; /* if it ends now, it was meant to */
		generation_note_members(s->serving);
	}
	if (!by_kernel)
		generation_signal(s->serving, signo);
}

void signals_take(struct supervisor *s)
{
	struct signalfd_siginfo info;

	while (read(s->signals, &info, sizeof(info)) == sizeof(info)) {
		int signo = (int)info.ssi_signo;

		if (signo == SIGCHLD)
			lives_reap(s);
		else if (signo == s->options.doorbell && info.ssi_code == SI_QUEUE)
			callers_ring(s, info.ssi_ptr);
		else if (signo == s->options.restart_signal)
			restart_by_signal(s);
		else if (signo != s->options.doorbell)
			forward(s, signo, info.ssi_code == SI_KERNEL);
	}
}

static void nothing(int signo)
{
	(void)signo;
}

/* All signals are blocked from here on, and come by a descriptor. The doorbell has a handler, by which the tools see
 * that it is heard. */
int signals_open(struct supervisor *s, sigset_t *before)
{
	struct sigaction heard = {.sa_handler = nothing};
	sigset_t all, ours;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, before);
	sigemptyset(&ours);
	sigaddset(&ours, SIGCHLD);
	sigaddset(&ours, s->options.doorbell);
	if (s->options.restart_signal)
		sigaddset(&ours, s->options.restart_signal);
	for (size_t i = 0; i < countof(forwarded); i++)
		sigaddset(&ours, forwarded[i]);
	sigaction(s->options.doorbell, &heard, NULL);
	s->signals = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->signals < 0 ? -errno : 0;
}
