/* SPDX-License-Identifier: MIT */
/* Surplus listeners: their queues go to the others. */
#define _GNU_SOURCE
#include "restart/surplus.h"

#include "base/log.h"
#include "base/next.h"
#include "base/raw.h"
#include "deliver/queue.h"
#include "fd/tagging.h"
#include "process/guard.h"
#include "process/roster.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <sys/socket.h>

enum { QUEUED_MAX = 4096 };

/* Orphans are claimed in the order of their ids. */
static struct entry *claimed_beside(const struct entry *e)
{
	struct entry *first;

	if (!(e->flags & ENTRY_ORPHAN) || e->flags & ENTRY_INHERITED || e->kind != ENTRY_STREAM ||
	    !(e->flags & ENTRY_LISTENING) || !e->id)
		return NULL;
	first = table_find(cpr__table, e->name, 0);
	return first && !(first->flags & ENTRY_ORPHAN) && first->kind == ENTRY_STREAM && first->flags & ENTRY_LISTENING
		       ? first
		       : NULL;
}

size_t surplus_count(void)
{
	struct guard_hold hold;
	size_t n = 0;

	if (!table_orphans(cpr__table) || !guard_lock(&hold))
		return 0;
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e))
		n += claimed_beside(e) != NULL;
	guard_unlock(&hold);
	return n;
}

/*
 * Drops the first packet of each new client from here on. Between the last accept() and the close a client could enter
 * the queue, and would be reset. A client repeats the packet, and the kernel then gives it to another listener. The
 * filter sees the packet from the TCP header on.
 */
static void drop_new_clients(int listener)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13), /* its flags */
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x12),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x02, 0, 1), /* SYN without ACK */
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, ~0U),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	next_setsockopt(listener, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

/* Accepts all that is queued. No other process uses this listener, so we may change its flags. */
static size_t take_queue(int listener, int *into, size_t most)
{
	size_t n = 0;
	int fd;

	next_fcntl(listener, F_SETFL, (void *)(long)(next_fcntl(listener, F_GETFL, NULL) | O_NONBLOCK));
	drop_new_clients(listener);
	while (n < most && (fd = raw_accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		into[n++] = fd;
	return n;
}

static void surplus_close_one(struct entry *e, const struct entry *beside)
{
	static cpr_large int queued[QUEUED_MAX];
	size_t n = 0, some;

	if (!table_hold(e))
		return;
	if (object_still(&e->object, e->fd)) {
		do { /* the queue may be longer than our room */
			some = take_queue(e->fd, queued, QUEUED_MAX);
			if (some)
				deliver_more(beside->name, beside->fd, queued, some);
			n += some;
		} while (some == QUEUED_MAX);
		raw_close(e->fd);
		log_info("%s/%d is one listener more than this generation wants: closed, and %zu connections of its "
			 "queue go to the others",
			 e->name, e->id, n);
	}
	table_remove(cpr__table, e);
}

/*
 * Workers that were forked before would take a knock for a client, and have copies of these listeners: there they are
 * left to grace.
 */
void surplus_close(void)
{
	struct guard_hold hold;
	struct entry *e, *after;

	if (!table_orphans(cpr__table) || roster_has_workers() || !guard_lock(&hold))
		return;
	for (e = table_first(cpr__table); e; e = after) {
		const struct entry *beside = claimed_beside(e);

		after = table_after(e);
		if (beside)
			surplus_close_one(e, beside);
	}
	guard_unlock(&hold);
}
