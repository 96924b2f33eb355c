/* SPDX-License-Identifier: MIT */
/* Retiring: told once, and given the time that it needs, but no more. */
#define _GNU_SOURCE
#include "restart/retire.h"

#include "process/procinfo.h"
#include "process/guard.h"
#include "base/io.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/raw.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#define MS INT64_C(1000000)

/* one that has nothing to do and uses less than a hundredth of a processor for so long will not leave by itself */
enum { REST_MS = 1000 };

/*
 * Clients that queued while no generation accepted are served first. One of apache's workers takes 5 ms of a processor
 * to end its 37 threads. Signalled at once, two generations of them made the last of 32 clients wait 10 ms longer.
 */
enum { CLIENTS_FIRST_MS = 200 };

static struct worker *workers;
static size_t worker_count;
static int64_t tell_at; /* 0: this generation does not serve yet */
static bool told;

void retire_adopt(const struct worker *from, size_t n)
{
	workers = pool_alloc((n + 1) * sizeof(*workers));
	if (!workers)
		return;
	if (n)
		memcpy(workers, from, n * sizeof(*workers));
	worker_count = n;
}

static bool is_alive(const struct worker *w)
{
	return w->pid && procinfo_start_time(w->pid) == w->start_time;
}

bool retire_knows(int pid)
{
	for (size_t i = 0; i < worker_count; i++)
		if (workers[i].pid == pid)
			return true;
	return false;
}

void retire_ring(const struct worker *old, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!old[i].leave_by && is_alive(&old[i]) && /* else an earlier generation has rung it */
		    procinfo_catches(old[i].pid,
				     cpr__settings.signal)) /* one that has exec'ed may be under cpr no more */
			kill(old[i].pid, cpr__settings.signal);
}

static int64_t drain_time(void)
{
	return cpr__settings.drain_s * 1000 * MS;
}

static void rests_from(struct worker *w, int64_t now, int64_t cpu)
{
	w->rests_since = now;
	w->cpu = cpu;
}

/*
 * Workers that an earlier generation has signalled keep their time, and what was seen of their rest. The obvious
 * deadline, one for all, would begin anew with every restart: in quick succession none would ever have to leave. (Of
 * apache's, which ignore the signal, 40 existed at a time, and each restart had to ask each of them.)
 */
static void retire_tell(int64_t now)
{
	for (size_t i = 0; i < worker_count; i++) {
		struct worker *w = &workers[i];

		if (!is_alive(w))
			continue;
		if (!w->leave_by) {
			kill(w->pid, cpr__settings.retire_signal);
			w->leave_by = now + drain_time();
		} else if (w->leave_by > now + drain_time()) {
			w->leave_by = now + drain_time(); /* the state is wrong, or --drain was longer */
		}
	}
	told = true;
}

void retire_tell_soon(int64_t now)
{
	tell_at = now + CLIENTS_FIRST_MS * MS;
	for (size_t i = 0; i < worker_count; i++)
		if (is_alive(&workers[i]) && (!workers[i].rests_since || workers[i].rests_since > now))
			rests_from(&workers[i], now, procinfo_cpu_time(workers[i].pid));
}

/*
 * Has it nothing left, and does it nothing? Some servers' workers do not leave at a signal. (Apache's leave when their
 * own master writes into a pipe, and the old generation had its end.) There is no point in a wait for them until
 * --drain is over. A worker that is busy to leave, or with a job after its answer, uses the processor, and gets its
 * time.
 */
static bool does_nothing(struct worker *w, int64_t now)
{
	int64_t cpu;

	if (!w->empty || now - w->rests_since < REST_MS * MS)
		return false;
	cpu = procinfo_cpu_time(w->pid);
	log_debug("worker %d of the last generation used the processor for %lld us of %lld", w->pid,
		  (long long)(cpu - w->cpu) / 1000, (long long)(now - w->rests_since) / 1000);
	if (cpu - w->cpu < (now - w->rests_since) / 100)
		return true;
	rests_from(w, now, cpu);
	return false;
}

/*
 * Reaps one that is dead: this program does not know it. False: its first thread is, but others are still on their
 * way out.
 */
static bool retire_reap(struct worker *w)
{
	siginfo_t info = {0};

	if (!raw_waitid(P_PID, (id_t)w->pid, &info, WEXITED | WNOHANG) && !info.si_pid)
		return false;
	w->pid = 0;
	return true;
}

/* Reaps the dead, and kills those that would not go. */
bool retire_is_over(int64_t now)
{
	bool gone = true;

	if (!told && tell_at && now < tell_at)
		return !worker_count;
	if (!told && tell_at)
		retire_tell(now);
	for (size_t i = 0; told && i < worker_count; i++) {
		struct worker *w = &workers[i];

		if (!w->pid)
			continue;
		if (is_alive(w)) {
			gone = false;
			if (now >= w->leave_by)
				log_warn("worker %d of the last generation did not leave in %d s: killed", w->pid,
					 cpr__settings.drain_s);
			if (now >= w->leave_by || does_nothing(w, now))
				kill(w->pid, SIGKILL);
		} else {
			gone &= retire_reap(w);
		}
	}
	return gone;
}

size_t retire_unfinished(struct worker *into, size_t most)
{
	int64_t now = io_now();
	size_t n = 0;

	if (!told && tell_at) { /* the next restart came at once: without this none would be signalled, or ended */
		retire_tell(now);
		retire_is_over(now);
	}
	/* also the dead: no later generation would learn of them, and they would stay zombies */
	for (size_t i = 0; i < worker_count && n < most; i++)
		if (is_alive(&workers[i]) || (workers[i].pid && !retire_reap(&workers[i])))
			into[n++] = workers[i];
	return n;
}
