/* SPDX-License-Identifier: MIT */
/* Births: what a forked process is told of itself, and what runs around each fork. */
#define _GNU_SOURCE
#include "process/birth.h"

#include "base/pool.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <unistd.h>

#pragma weak __libc_single_threaded

enum {
	CLEARED_ROOM = 1 << 16,
	BORN_MAX = 16,
	FORK_MAX = 8,
};

/*
 * The kernel clears this in every child that has a copy of our memory, however it was born (fork, _Fork, clone), and leaves it alone in one
 * that shares our memory (vfork, posix_spawn). So one getpid() tells all three apart without standing in front of any of them: vfork cannot
 * be wrapped in C at all, and system() and popen() spawn inside libc where nobody stands. (What else a child must not have of its parent's lies here, too: birth_cleared.)
 */
cpr_touched struct birth_self *birth_self;

cpr_touched int birth_known_as;

static cpr_touched struct around {
	void (*before)(void);
	void (*after)(void);
} around_fork[FORK_MAX];
static cpr_touched int around_count;

static void (*born[BORN_MAX])(void);
static int born_count;

/* In one place of the library, and what they touch in another: whatever a process has touched since its last fork it looks up anew in the kernel's tables. */
#define fork_path __attribute__((hot, noinline))

void birth_around_fork(void (*before)(void), void (*after)(void))
{
	for (int i = 0; i < around_count; i++)
		if (around_fork[i].before == before)
			return;
	if (around_count < FORK_MAX) {
		around_fork[around_count] = (struct around){before, after};
		around_count++;
	}
}

void birth_when_born(void (*forget)(void))
{
	if (born_count < BORN_MAX)
		born[born_count++] = forget;
}

/* The first thing that a child with its own copy of our memory does here. */
static void after_birth(void)
{
	int saved_errno = errno;

	*birth_self = (struct birth_self){.pid = getpid(), .parent = birth_known_as};
	birth_known_as = birth_self->pid;
	for (int i = 0; i < born_count; i++)
		born[i]();
	errno = saved_errno;
}

__attribute__((hot)) bool birth_own_memory(void)
{
	int me;

	if (!birth_self)
		return false;
	me = getpid();
	if (likely(birth_self->pid == me))
		return true;
	if (birth_self->pid)
		return false;
	after_birth();
	return true;
}

void *birth_cleared(size_t size)
{
	static size_t used = (sizeof(struct birth_self) + 63) & ~(size_t)63;
	char *room = (char *)birth_self + used;

	if (!birth_self || size > CLEARED_ROOM - used)
		return NULL;
	used += (size + 63) & ~(size_t)63;
	return room;
}

__attribute__((hot)) bool birth_is_single_threaded(void)
{
	return &__libc_single_threaded && __libc_single_threaded;
}

/*
 * A page that a child touches, code or data, costs it a fault, and a fork that is over at once costs little more than some dozens of them. So nothing of ours runs in a child before it asks
 * for something: there is no handler for it in pthread_atfork. What a child must know of itself it works out when it first asks (after_birth), and whom the owner
 * has to tell of a restart it finds by itself (process/roster.c).
 */
static fork_path void prepare(void)
{
	for (int i = around_count; i-- > 0;)
		around_fork[i].before();
}

static fork_path void parent(void)
{
	for (int i = 0; i < around_count; i++)
		if (around_fork[i].after)
			around_fork[i].after();
}

int birth_init(void)
{
	void *page = pool_map(CLEARED_ROOM);

	if (!page)
		return -ENOMEM;
	if (madvise(page, CLEARED_ROOM, MADV_WIPEONFORK))
		return -errno;
	birth_self = page;
	*birth_self = (struct birth_self){.pid = getpid(), .parent = getppid()};
	birth_known_as = birth_self->pid;
	return pthread_atfork(prepare, parent, NULL) ? -ENOMEM : 0;
}
