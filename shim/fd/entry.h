/* SPDX-License-Identifier: MIT */
/* Entries of the table, as what is bound and opened makes them. Holding the guard. */
#ifndef CPR_FD_ENTRY_H
#define CPR_FD_ENTRY_H

#include "model/table.h"

/* The entry's flags from the rules and the kernel. Holding the guard. */
void entry_judge(struct entry *e);

/* Adds a tag; a stale entry at the number goes first. NULL: it cannot be, and the log says so. Holding the guard. */
struct entry *entry_add(const char *name, int fd, enum entry_kind kind, const struct object *object);

/* A socket that was bound a while ago: is it v6-only, does it listen? Judges it. Holding the guard. */
void entry_look_at_socket(struct entry *e, int backlog);

/* Does this socket of AF_INET6 take no IPv4? */
bool entry_is_v6only(int fd, const struct object *object);

/* Is it a stream socket that listens? */
bool entry_listens(const struct entry *e);

#endif
