/* SPDX-License-Identifier: MIT */
/* Helpers: programs that a generation has exec'ed with one of its connections, which serve it on their own. */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include "base/fds.h"
#include "model/protocol.h"
#include "proc.h"
#include "remote.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

struct search {
	uint64_t keys[PROTOCOL_KEYS_MAX];
	size_t count;
	int pidfd; /* of the process that is looked at */
	bool found;
};

/* Was it accepted from one of our listeners? */
static bool is_connection_of(int fd, const struct search *search)
{
	struct sockaddr_storage address, peer;
	socklen_t len = sizeof(address), peer_len = sizeof(peer);
	uint64_t key;

	if (getpeername(fd, (struct sockaddr *)&peer, &peer_len) || getsockname(fd, (struct sockaddr *)&address, &len))
		return false;
	key = protocol_key((struct sockaddr *)&address, len);
	for (size_t i = 0; key && i < search->count; i++)
		if (search->keys[i] == key)
			return true;
	return false;
}

static void look_at(int number, void *arg)
{
	struct search *search = arg;
	cleanup_fd int fd = search->found ? -1 : remote_descriptor(search->pidfd, number);

	search->found |= fd >= 0 && is_connection_of(fd, search);
}

static bool has_connection(pid_t pid, struct search *search)
{
	cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	search->pidfd = pidfd;
	search->found = false;
	return pidfd >= 0 && fds_walk_in(path, look_at, search) && search->found;
}

/* A process that was forked says itself what it has. */
static bool speaks_for_itself(pid_t pid, const struct generation *g, const struct proc_page *owners)
{
	struct proc_page page;

	return pid == g->owner || (!proc_page(pid, &page) && page.ino == owners->ino);
}

/*
 * inetd, tcpserver and sshd exec another program for each client. No library there reports the connection, and the
 * generation looked as if it had none left.
 */
uint32_t helpers_count(const struct supervisor *s, struct generation *g)
{
	struct proc_page owners;
	struct search search;
	uint32_t n = 0;

	if (s->recipe.filtered || g->ended || proc_page(g->owner, &owners))
		return 0;
	search.count = holdings_keys(&s->holdings, search.keys, PROTOCOL_KEYS_MAX);
	generation_note_members(g);
	for (size_t i = 0; i < g->member_count; i++)
		n += !speaks_for_itself(g->members[i].pid, g, &owners) && has_connection(g->members[i].pid, &search);
	return n;
}
