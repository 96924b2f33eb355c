/* SPDX-License-Identifier: MIT */
/* Connections between processes of one family. */
#define _GNU_SOURCE
#include "drain/kinship.h"

#include "fd/conn.h"
#include "fd/inherited.h"
#include "fd/tagging.h"
#include "process/procinfo.h"
#include "process/roster.h"

#include <sys/socket.h>
#include <unistd.h>

static bool is_family(int pid)
{
	return pid == getpid() || pid == roster_owner() || pid == inherited_ancestor() ||
	       procinfo_descends(pid, roster_owner());
}

static bool is_unix(const struct conn *c)
{
	const struct entry *e = tagging_listener(c->listener);

	return e && e->object.domain == AF_UNIX;
}

void kinship_look(void)
{
	for (int fd = conn_next(0); fd >= 0; fd = conn_next(fd + 1)) {
		struct conn *c = conn_at(fd);
		struct ucred peer = {0};
		socklen_t len = sizeof(peer);

		if (!c || c->flags & CONN_PEER_KNOWN || !is_unix(c))
			continue;
		/* the kernel notes the peer when it connects, and the connection keeps that for good */
		conn_set(c, CONN_PEER_KNOWN);
		if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) && peer.pid > 0 && is_family(peer.pid))
			conn_set(c, CONN_NOT_OURS);
	}
}
