/* SPDX-License-Identifier: MIT */
/* The signals of a supervisor: its children's ends, cprctl's ring, what is the server's. */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include <errno.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const int forwarded[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};

/* The terminal's own go to the whole process group: a server that is in ours has got them already. */
static void forward(struct supervisor *s, int signo, bool by_kernel)
{
	lives_reap(s); /* a daemon's parent that has ended could not take it, and SIGCHLD comes behind it */
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
	if (!by_kernel || generation_is_apart())
		generation_signal(s->serving, signo);
}

static void take(struct supervisor *s, int signo, bool by_kernel)
{
	if (signo == SIGCHLD)
		lives_reap(s);
	else if (signo == s->options.restart_signal)
		supervisor_restart_unasked(s);
	else
		forward(s, signo, by_kernel);
}

/* One that has come: false, there is none. A ring is answered at once. */
static bool next_signal(struct supervisor *s, struct noted_signal *signal)
{
	struct signalfd_siginfo info;

	while (read(s->signals, &info, sizeof(info)) == sizeof(info)) {
		*signal = (struct noted_signal){(int)info.ssi_signo, info.ssi_code == SI_KERNEL};
		if (signal->signo != s->options.doorbell)
			return true;
		if (info.ssi_code == SI_QUEUE)
			callers_ring(s, info.ssi_ptr);
	}
	return false;
}

void signals_take(struct supervisor *s)
{
	struct noted_signal signal;

	while (next_signal(s, &signal))
		take(s, signal.signo, signal.by_kernel);
}

bool signals_have_room(const struct supervisor *s)
{
	return s->noted_count < countof(s->noted);
}

/* One of a kind is enough, as the kernel keeps no more of them. */
void signals_note(struct supervisor *s)
{
	struct noted_signal signal;

	while (signals_have_room(s) && next_signal(s, &signal)) {
		size_t i = 0;

		while (i < s->noted_count && s->noted[i].signo != signal.signo)
			i++;
		if (i == s->noted_count)
			s->noted[s->noted_count++] = signal;
		s->told_to_end |= signal.signo == SIGTERM;
	}
}

/* What came while a generation was waited for: more may come meanwhile. */
void signals_take_noted(struct supervisor *s)
{
	while (s->noted_count) {
		struct noted_signal signal = s->noted[0];

		memmove(s->noted, s->noted + 1, --s->noted_count * sizeof(*s->noted));
		if (signal.signo == SIGTERM)
			s->told_to_end = false;
		take(s, signal.signo, signal.by_kernel);
	}
}

static void nothing(int signo)
{
	(void)signo;
}

/*
 * From here on all signals are blocked, and arrive by a descriptor. The doorbell has a handler, which shows the tools
 * that the process answers.
 */
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
