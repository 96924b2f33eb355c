/* SPDX-License-Identifier: MIT */
/* Sleeps, and the other calls that say EINTR after any handler: a ring does not end them. */
#define _GNU_SOURCE
#include "restart/arrive.h"
#include "process/doorbell.h"
#include "base/io.h"
#include "base/next.h"
#include "wrap/wrap.h"

#include <sys/msg.h>
#include <sys/sem.h>
#include <unistd.h>

const struct timespec *cpr__left(const struct timespec *timeout, int64_t began, struct timespec *room)
{
	int64_t left;

	if (!timeout || timeout->tv_sec > 1000000000)
		return timeout;
	left = timeout->tv_sec * INT64_C(1000000000) + timeout->tv_nsec - (io_now() - began);
	left = left < 0 ? 0 : left;
	*room = (struct timespec){left / 1000000000, left % 1000000000};
	return room;
}

/*
 * The kernel says what is left, so that going on takes as long as it would have. It says so in the program's own
 * memory, if that is there, and refuses what cannot be written.
 */
CPR_EXPORT int nanosleep(const struct timespec *time, struct timespec *left)
{
	struct timespec room, again, *rest = left ? left : &room;
	unsigned rings = doorbell_rings;
	int r = next_nanosleep(time, rest);

	while (doorbell_only_rang(r, rings)) {
		again = *rest;
		rings = doorbell_rings;
		r = next_nanosleep(&again, rest);
	}
	return r;
}

/* This one returns its error, and leaves errno alone. An absolute time is as true after the ring as before. */
CPR_EXPORT int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *left)
{
	struct timespec room, again, *rest = left ? left : &room;
	unsigned rings = doorbell_rings;
	int r = next_clock_nanosleep(clock, flags, time, rest);

	while (r == EINTR && doorbell_rings != rings) {
		again = flags & TIMER_ABSTIME ? *time : *rest;
		rings = doorbell_rings;
		r = next_clock_nanosleep(clock, flags, &again, rest);
	}
	return r;
}

CPR_EXPORT int usleep(useconds_t us)
{
	struct timespec time = {us / 1000000, us % 1000000 * 1000L};

	return nanosleep(&time, NULL);
}

/* What is left, rounded as libc does: down, when a signal ends it. */
CPR_EXPORT unsigned sleep(unsigned seconds)
{
	struct timespec time = {seconds, 0};
	int saved_errno = errno;

	if (!nanosleep(&time, &time)) {
		errno = saved_errno;
		return 0;
	}
	return (unsigned)time.tv_sec;
}

/* Calls that can be made again as they were. */
#define AGAIN(call)                                                                                                    \
	({                                                                                                             \
		unsigned rings_;                                                                                       \
		__typeof__(call) r_;                                                                                   \
		do {                                                                                                   \
			rings_ = doorbell_rings;                                                                       \
			r_ = (call);                                                                                   \
		} while (doorbell_only_rang(r_, rings_));                                                              \
		r_;                                                                                                    \
	})

CPR_EXPORT int pause(void)
{
	if (unlikely(generation_is_settling)) /* a master that leaves everything to its workers: it is ready */
		arrive_waiting(AWAITED_WORK);
	return AGAIN(next_pause());
}

/* With a time, the kernel does not restart these either, whatever signal(7) says. The time is absolute. */
CPR_EXPORT int sem_timedwait(sem_t *sem, const struct timespec *at)
{
	return AGAIN(next_sem_timedwait(sem, at));
}

CPR_EXPORT int sem_clockwait(sem_t *sem, clockid_t clock, const struct timespec *at)
{
	return AGAIN(next_sem_clockwait(sem, clock, at));
}

CPR_EXPORT int semop(int set, struct sembuf *ops, size_t n)
{
	return AGAIN(next_semop(set, ops, n));
}

CPR_EXPORT int semtimedop(int set, struct sembuf *ops, size_t n, const struct timespec *timeout)
{
	int64_t began = cpr__began(timeout);
	unsigned rings = doorbell_rings;
	int r = next_semtimedop(set, ops, n, timeout);

	while (doorbell_only_rang(r, rings)) {
		struct timespec room;

		rings = doorbell_rings;
		r = next_semtimedop(set, ops, n, cpr__left(timeout, began, &room));
	}
	return r;
}

CPR_EXPORT ssize_t msgrcv(int queue, void *message, size_t size, long type, int flags)
{
	return AGAIN(next_msgrcv(queue, message, size, type, flags));
}

CPR_EXPORT int msgsnd(int queue, const void *message, size_t size, int flags)
{
	return AGAIN(next_msgsnd(queue, message, size, flags));
}
