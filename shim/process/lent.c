/* SPDX-License-Identifier: MIT */
/* The task's rounds in a thread of the program: the timer that rings for them. */
#define _GNU_SOURCE
#include "process/lent.h"

#include "base/io.h"
#include "base/next.h"
#include "process/birth.h"
#include "process/guard.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>

#define SOON_NS 100000
#define MS INT64_C(1000000)

enum { HASTE_MS = 5 };

/* A forked child finds this cleared: it has no timer. */
static cpr_touched struct timer {
	_Atomic int made; /* the kernel's id and 1; 0: there is none */
	_Atomic int64_t due; /* CLOCK_MONOTONIC, ns; 0: it is not set */
} *timer;

/* Told from the program's own timers by an address that only we know. */
static const char mark;

int lent_init(void)
{
	timer = birth_cleared(sizeof(*timer));
	return timer ? 0 : -ENOMEM;
}

bool lent_is_timer(const siginfo_t *info)
{
	return info->si_code == SI_TIMER && info->si_value.sival_ptr == &mark;
}

/* It stays, and is silent, until the process ends: two threads may be about to set it. */
static int make_timer(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL,
				 .sigev_signo = cpr__settings.signal,
				 .sigev_value.sival_ptr = (void *)&mark};
	int id, none = 0, made = atomic_load(&timer->made);

	if (made)
		return made - 1;
	if (sys(SYS_timer_create, CLOCK_MONOTONIC, &event, &id) < 0)
		return -1;
	if (atomic_compare_exchange_strong(&timer->made, &none, id + 1))
		return id;
	sys(SYS_timer_delete, id);
	return none - 1;
}

void lent_ring_in(int ms)
{
	struct itimerspec in = {.it_value = {ms / 1000, ms ? ms % 1000 * 1000000L : SOON_NS}};
	int id = timer ? make_timer() : -1;

	if (id < 0)
		return;
	atomic_store(&timer->due, io_now() + ms * MS); /* before: it may ring at once */
	if (sys(SYS_timer_settime, id, 0, &in, NULL) < 0)
		atomic_store(&timer->due, 0);
}

void lent_rang(void)
{
	atomic_store(&timer->due, 0);
}

bool lent_is_armed(void)
{
	return atomic_load(&timer->due);
}

void lent_hasten(void)
{
	if (atomic_load(&timer->due) > io_now() + HASTE_MS * MS)
		lent_ring_in(HASTE_MS);
}
