/* SPDX-License-Identifier: MIT */
/* The page that the owner shares with all processes that it forks. */
#define _GNU_SOURCE
#include "process/page.h"

#include "base/io.h"
#include "base/next.h"
#include "base/pool.h"
#include "base/raw.h"
#include "model/protocol.h"
#include "process/birth.h"
#include "process/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

cpr_touched struct page *page_shared;
static cpr_touched int page_fd = -1; /* the memfd of it, for the program's own exec; -1: there was no fork yet, -2: there is none */
static int page_filters;

static bool is_page(int fd, uint64_t ino)
{
	struct stat st;

	return fd >= 0 && !fstat(fd, &st) && st.st_ino == ino && st.st_size == sizeof(struct page);
}

int page_fd_of(uint64_t *ino)
{
	static uint64_t known;
	struct stat st;

	if (!known && page_fd >= 0 && !fstat(page_fd, &st))
		known = st.st_ino;
	*ino = known;
	return is_page(page_fd, known) ? page_fd : -1; /* else somebody has closed what he does not know */
}

void page_inherit(int fd, uint64_t ino)
{
	struct page *page;

	if (!is_page(fd, ino))
		return;
	page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		return;
	if (page->form != PAGE_FORM || atomic_load(&page->owner) != getpid()) {
		munmap(page, sizeof(*page));
		raw_close(fd);
		return;
	}
	munmap(page_shared, sizeof(*page_shared));
	page_shared = page;
	next_fcntl(fd, F_SETFD, (void *)(long)FD_CLOEXEC);
	if (page_fd >= 0)
		raw_close(page_fd);
	page_fd = fd;
	atomic_store(&page_shared->drain.gate, 0);
	atomic_store(&page_shared->drain.nonce, 0); /* a drain ends with the image that wanted it */
	atomic_store(&page_shared->forks.unborn, 0);
}

void page_let_go(int fd, uint64_t ino)
{
	struct page *page;

	if (!ino || !is_page(fd, ino))
		return;
	page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page != MAP_FAILED && page->form == PAGE_FORM && atomic_load(&page->owner) == getpid() && atomic_load(&page->drain.nonce))
		atomic_store(&page->drain.nonce, PAGE_GONE);
	if (page != MAP_FAILED)
		munmap(page, sizeof(*page));
	raw_close(fd);
}

/* The page, and its memfd into *fd; in the place of `old` if that is not NULL. */
static struct page *make_page(int filters, struct page *old, int *fd)
{
	char name[32];
	struct text t = TEXT_ON(name);
	cleanup_fd int made = -1;
	void *page;

	text_format(&t, PROTOCOL_PAGE_NAME "%d.%d", cpr__settings.signal, filters);
	made = io_memfd(name);
	if (made < 0 || ftruncate(made, sizeof(struct page)))
		return NULL;
	if (old && io_write_all(made, old, sizeof(*old)))
		return NULL;
	page = mmap(old, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED | (old ? MAP_FIXED : 0), made, 0);
	if (page == MAP_FAILED)
		return NULL;
	*fd = steal_fd(&made);
	return page;
}

/*
 * The last number of the least table of descriptors that the kernel makes, if that is free: a higher one costs every fork another table, as large as the number says. -2: there is no
 * number left.
 */
static int out_of_the_way(int fd)
{
	enum { LAST = 63 };
	int up = next_fcntl(fd, F_DUPFD_CLOEXEC, (void *)(long)LAST);

	if (up > LAST) {
		raw_close(up);
		up = next_fcntl(fd, F_DUPFD_CLOEXEC, (void *)(long)PROTOCOL_HIGH);
	}
	return up >= 0 ? up : -2;
}

/*
 * Before the first fork. Until then nobody shares the page, and its memfd was closed, since a program that never forks should not find a descriptor that it did not open. A program
 * that forks may exec itself afterwards, and must then have something to hand on: so it gets another page, whose memfd stays open, where nobody looks for one. It takes the
 * place of the old one: another thread may be looking at it, and every mapping makes every fork dearer.
 */
static __attribute__((noinline, cold)) void keep(void)
{
	int saved_errno = errno, fd;

	if (!birth_own_memory()) /* a vfork child: the descriptor would be its own */
		return;
	page_fd = -2; /* tried */
	if (atomic_load(&page_shared->owner) == getpid() && make_page(page_filters, page_shared, &fd)) {
		page_fd = out_of_the_way(fd);
		raw_close(fd);
	}
	errno = saved_errno;
}

static __attribute__((hot)) void keep_before_fork(void)
{
	if (unlikely(page_fd == -1))
		keep();
}

struct page_drain *page_shared_drain(void)
{
	return page_shared ? &page_shared->drain : NULL;
}

int page_init(int filters)
{
	int fd;

	page_shared = make_page(filters, NULL, &fd);
	if (!page_shared)
		return -errno;
	raw_close(fd);
	page_shared->form = PAGE_FORM;
	page_filters = filters;
	birth_around_fork(keep_before_fork, NULL);
	return 0;
}
