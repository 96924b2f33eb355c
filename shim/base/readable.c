/* SPDX-License-Identifier: MIT */
/* Asks the kernel whether memory can be read. */
#include "base/readable.h"

#include "base/next.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>

enum {
	PAGE = 4096,
	STACK_PAGES = 16, /* at most so many above the caller's frame are asked for, and remembered */
	RECENT = 8,
};

static cpr_thread uintptr_t recent[RECENT];
static cpr_thread unsigned recent_turn;
static bool paused;

void readable_pause(bool on)
{
	paused = on;
}

cpr_thread struct readable_stack readable_stack;

/*
 * By futex(2): a seccomp filter of a program with threads allows it. process_vm_readv(2) is often refused there, or
 * ends the process. This operation compares the word at `at` with a number. Equal or not, it wakes and moves
 * nothing.
 */
static bool can_read(uintptr_t at)
{
	uintptr_t word = at & ~(uintptr_t)3;

	return !next_sys(SYS_futex, word, FUTEX_CMP_REQUEUE_PRIVATE, 0, 0, word, 0) || errno != EFAULT;
}

static uintptr_t readable_page_of(uintptr_t at)
{
	return at & ~(uintptr_t)(PAGE - 1);
}

static bool is_recent(uintptr_t page)
{
	for (int i = 0; i < RECENT; i++)
		if (recent[i] == page)
			return true;
	return false;
}

/* From the page of `from` to that of `last`. */
static bool can_read_pages(uintptr_t from, uintptr_t last)
{
	for (uintptr_t page = readable_page_of(from); page <= readable_page_of(last); page += PAGE) {
		if (page && is_recent(page))
			continue;
		if (!can_read(page < from ? from : page))
			return false;
		recent[recent_turn++ % RECENT] = page;
	}
	return true;
}

/* A pointer into this thread's stack: what lies between the frame and it stays as long as the thread runs on it. */
static bool is_on_stack(uintptr_t frame, uintptr_t last)
{
	return last >= frame && readable_page_of(last) - readable_page_of(frame) < STACK_PAGES * PAGE;
}

static void remember(uintptr_t from, uintptr_t to)
{
	struct readable_stack *s = &readable_stack;

	if (from > s->to || to < s->from) /* another stack: a coroutine's, or a handler's */
		*s = (struct readable_stack){from, to};
	s->from = from < s->from ? from : s->from;
	s->to = to > s->to ? to : s->to;
}

__attribute__((noinline)) bool readable_ask(const void *at, size_t n)
{
	uintptr_t frame = (uintptr_t)__builtin_frame_address(0), from = (uintptr_t)at, last = from + n - 1;
	int saved_errno = errno;
	bool can;

	if (!n || paused)
		return true;
	if (last < from)
		return false;
	can = can_read_pages(from, last);
	if (can && from >= frame && is_on_stack(frame, last) && can_read_pages(frame, last))
		remember(readable_page_of(frame), readable_page_of(last) + PAGE);
	errno = saved_errno;
	return can;
}

bool readable_string(const char *string)
{
	if (paused)
		return true;
	for (const char *at = string; readable(at, 1); at = (const char *)(readable_page_of((uintptr_t)at) + PAGE))
		for (const char *c = at; c == at || (uintptr_t)c % PAGE; c++)
			if (!*c)
				return true;
	return false;
}

/* Adds 0 to the int. */
bool writable_int(const int *at)
{
	int saved_errno = errno;
	bool can = paused || (!((uintptr_t)at & 3) && (next_sys(SYS_futex, at, FUTEX_WAKE_OP_PRIVATE, 0, 0, at,
								FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0)) >= 0 ||
						       errno != EFAULT));

	errno = saved_errno;
	return can;
}
