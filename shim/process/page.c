/* SPDX-License-Identifier: MIT */
/* The page that the owner shares with all processes that it forks. */
#define _GNU_SOURCE
#include "process/page.h"

#include "base/io.h"
#include "base/log.h"
#include "base/next.h"
#include "base/pool.h"
#include "base/raw.h"
#include "model/protocol.h"
#include "process/birth.h"
#include "process/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

cpr_touched struct page *page_shared;
/* the memfd of it, for the program's own exec; -1: there was no fork yet, -2: there is none */
static cpr_touched int page_fd = -1;
static int page_filters;

static bool is_inode(int fd, uint64_t ino)
{
	struct stat st;

	return fd >= 0 && ino && !fstat(fd, &st) && st.st_ino == ino;
}

int page_fd_of(uint64_t *ino)
{
	static uint64_t known;
	struct stat st;

	if (!known && page_fd >= 0 && !fstat(page_fd, &st))
		known = st.st_ino;
	*ino = known;
	return is_inode(page_fd, known) ? page_fd : -1; /* else the program has closed what it does not know */
}

static void *map(void *at, size_t size, int protection, int flags, int fd)
{
	void *memory = mmap(at, size, protection, flags, fd, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

/* The page of a memfd that was handed on; NULL: it is of another version. What could still be cut off is none. */
static struct page *page_of_fd(int fd)
{
	struct page *page;
	struct stat st;

	if (fstat(fd, &st) || st.st_size != sizeof(*page) || !(next_fcntl(fd, F_GET_SEALS, NULL) & F_SEAL_SHRINK))
		return NULL;
	page = map(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	if (page && page->form != PAGE_FORM) {
		munmap(page, sizeof(*page));
		page = NULL;
	}
	return page;
}

bool page_inherit(int fd, uint64_t ino)
{
	struct page *page;

	if (!is_inode(fd, ino))
		return false;
	page = page_of_fd(fd);
	if (!page) {
		raw_close(fd);
		return false;
	}
	munmap(page_shared, sizeof(*page_shared));
	page_shared = page;
	next_fcntl(fd, F_SETFD, (void *)(long)FD_CLOEXEC);
	if (page_fd >= 0)
		raw_close(page_fd);
	page_fd = fd;
	atomic_store(&page_shared->drain.gate, 0);
	atomic_store(&page_shared->owner, getpid());
	atomic_store(&page_shared->drain.nonce, 0); /* a drain ends with the image that wanted it */
	atomic_store(&page_shared->forks.unborn, 0);
	return true;
}

void page_let_go(int fd, uint64_t ino)
{
	struct page *page;

	if (!is_inode(fd, ino))
		return;
	page = page_of_fd(fd);
	if (page) {
		atomic_store(&page->drain.nonce, PAGE_GONE);
		munmap(page, sizeof(*page));
	}
	raw_close(fd);
}

/* By a mapping of this name the tools know a process that is under cpr. */
static void name_mapping(char name[32])
{
	struct text t = text_on(name, 32);

	text_format(&t, PROTOCOL_PAGE_NAME "%d.%d", cpr__settings.signal, page_filters);
}

/*
 * The hard limit of file sizes forbids a memfd of this size. So the page is memory without a memfd, and an empty memfd
 * carries the name, in a mapping of its own.
 */
static struct page *make_nameless(const char *name)
{
	cleanup_fd int mark = io_memfd(name);

	if (mark < 0 || !map(NULL, 1, PROT_NONE, MAP_SHARED, mark))
		return NULL;
	return map(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
}

/* A worker could end the owner by cutting the page off. */
static int make_memfd(const char *name)
{
	return io_memfd_sized(name, sizeof(struct page), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}

/*
 * Chooses the number of the page's memfd: one that needs a descriptor table of 128, which costs a fork no more than the
 * smallest, of 64. The last of those numbers is bash's, for <(...). -2: no number is left.
 */
static int out_of_the_way(int fd)
{
	enum { LAST = 127 };
	int up = next_fcntl(fd, F_DUPFD_CLOEXEC, (void *)(long)LAST);

	if (up > LAST) {
		raw_close(up);
		up = next_fcntl(fd, F_DUPFD_CLOEXEC, (void *)(long)PROTOCOL_HIGH);
	}
	return up >= 0 ? up : -2;
}

/* Another page with the same in it, in the same place, and its descriptor. */
static int make_again(void)
{
	char name[32];
	cleanup_fd int fd = -1;
	struct page *copy;

	name_mapping(name);
	fd = make_memfd(name);
	copy = fd < 0 ? NULL : map(NULL, sizeof(*copy), PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	if (!copy)
		return -2;
	memcpy(copy, page_shared, sizeof(*copy));
	munmap(copy, sizeof(*copy));
	if (!map(page_shared, sizeof(*page_shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd))
		return -2;
	return out_of_the_way(fd);
}

/*
 * Runs before the first fork. Until then no process shares the page, and its memfd is closed: a program that never
 * forks should not find a descriptor that it did not open. A program that forks may exec itself later, and then needs a
 * page to hand on. So it gets another page, whose memfd stays open at a number where no program looks. The new page
 * replaces the old one at the same address: another thread may be reading it, and every mapping makes each fork slower.
 */
static __attribute__((noinline, cold)) void keep(void)
{
	int saved_errno = errno;

	if (!birth_own_memory()) /* a vfork child: the descriptor would be its own */
		return;
	page_fd = -2; /* tried */
	if (atomic_load(&page_shared->owner) == getpid())
		page_fd = make_again();
	errno = saved_errno;
}

static __attribute__((hot)) void keep_before_fork(void)
{
	if (unlikely(page_fd == -1))
		keep();
}

/* ---- places ---- */

enum { FIRST_PLACES = 128 }; /* which child takes which place: all of the first ones stand together */

/* Places of the dead are free: most children end without a word. */
static bool page_is_taken(int pid)
{
	int saved_errno = errno;
	bool taken = kill(pid, 0) == 0 || errno != ESRCH;

	errno = saved_errno;
	return taken;
}

int page_place_of(int pid)
{
	int top = atomic_load(&page_shared->top);

	for (int slot = 0; slot < top && slot < PAGE_WORKERS; slot++)
		if (atomic_load(&page_shared->worker[slot].pid) == pid)
			return slot;
	return -1;
}

static void claim_place(int slot, int parent, uint64_t now)
{
	int top = atomic_load(&page_shared->top);

	while (top <= slot && !atomic_compare_exchange_weak(&page_shared->top, &top, slot + 1))
		;
	atomic_store(&page_shared->worker[slot].parent, parent);
	page_shared->worker[slot].entered = now;
	atomic_store(&page_shared->worker[slot].gated, 0);
	/* what was slow when that was asked cannot be its */
	atomic_store(&page_shared->worker[slot].calm, atomic_load(&page_shared->drain.survey));
}

static void warn_of_many(int pid)
{
	static _Atomic bool said; /* a child has a copy: it may say it once more */

	if (!atomic_exchange(&said, true))
		log_warn("more than %d processes forked: process %d will not be told of a restart", (int)PAGE_WORKERS,
			 pid);
}

int page_enter(int pid, int parent, uint64_t now)
{
	int known = page_place_of(pid);

	for (int i = 0; i < PAGE_WORKERS; i++) {
		int slot = known >= 0         ? known
			   : i < FIRST_PLACES ? (pid + i) % FIRST_PLACES
					      : i,
		    there = atomic_load(&page_shared->worker[slot].pid);

		if (there && there != pid && page_is_taken(there))
			continue;
		if (!atomic_compare_exchange_strong(&page_shared->worker[slot].pid, &there, pid))
			continue;
		claim_place(slot, parent, now);
		return slot;
	}
	warn_of_many(pid);
	return -1;
}

/* ---- begin ---- */

struct page_drain *page_shared_drain(void)
{
	return page_shared ? &page_shared->drain : NULL;
}

int page_init(int filters)
{
	char name[32];
	cleanup_fd int fd = -1;

	page_filters = filters;
	name_mapping(name);
	fd = make_memfd(name);
	page_shared =
		fd < 0 ? make_nameless(name) : map(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	if (!page_shared)
		return fd < 0 ? fd : -errno;
	page_shared->form = PAGE_FORM;
	birth_around_fork(keep_before_fork, NULL);
	return 0;
}
