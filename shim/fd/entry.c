/* SPDX-License-Identifier: MIT */
/* Entries of the table: made, judged by the rules, filled by what the kernel says of a socket. */
#define _GNU_SOURCE
#include "fd/entry.h"

#include "base/guarded.h"

#include "base/log.h"
#include "process/guard.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

void entry_judge(struct entry *e)
{
	assert_guarded();
	e->flags &= (uint16_t)~ENTRY_KEPT;
	if (!(e->flags & ENTRY_STARTED_WITH) && rules_keep(&cpr__settings.rules, e))
		e->flags |= ENTRY_KEPT;
}

struct entry *entry_add(const char *name, int fd, enum entry_kind kind, const struct object *object)
{
	struct entry *e;
	int r;

	assert_guarded();
	table_forget_fd(cpr__table, fd);
	r = table_add_next(cpr__table, name, fd, &e);
	if (r) {
		errno = -r;
		log_warn("%s will not be kept: %m", name);
		return NULL;
	}
	e->kind = kind;
	e->object = *object;
	entry_judge(e);
	return e;
}

bool entry_is_v6only(int fd, const struct object *object)
{
	int on = 0;
	socklen_t len = sizeof(on);

	return object->domain == AF_INET6 && !getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, &len) && on;
}

bool entry_listens(const struct entry *e)
{
	int on = 0;
	socklen_t len = sizeof(on);

	return e->kind == ENTRY_STREAM && !getsockopt(e->fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) && on;
}

void entry_look_at_socket(struct entry *e, int backlog)
{
	if (entry_is_v6only(e->fd, &e->object))
		e->flags |= ENTRY_V6ONLY;
	if (entry_listens(e)) {
		e->flags |= ENTRY_LISTENING;
		e->backlog = backlog;
	}
	entry_judge(e);
}
