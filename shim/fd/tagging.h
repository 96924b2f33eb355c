/* SPDX-License-Identifier: MIT */
/*
 * From the program's calls to the table: bound, opened, duplicated, closed. A signal handler may call all of these.
 * They keep errno.
 */
#ifndef CPR_FD_TAGGING_H
#define CPR_FD_TAGGING_H

#include "fd/conn.h"
#include "process/guard.h"
#include "fd/pending.h"

#include <string.h>

/* May the table have this number? One or two loads, no lock. */
static inline bool tagging_knows(int fd)
{
	return cpr__table && table_tracks(cpr__table, fd);
}

/* Are there orphans? While there are none, no call of the program costs more than this. */
static inline bool tagging_orphans(void)
{
	return cpr__table && table_orphans(cpr__table);
}

/* Is this number an orphan? For the program it is not open. */
bool tagging_is_hidden(int fd);

static inline bool tagging_hidden(int fd)
{
	return unlikely(tagging_orphans()) && tagging_is_hidden(fd);
}

/* Is there a record of this number: as a connection, as bound, in the table? */
static inline bool tagging_remembers(int fd)
{
	return unlikely(conn_at(fd) != NULL) || pending_is_fleeting(fd) || unlikely(tagging_knows(fd));
}

/* Was a socket ever bound to a path here? */
extern _Atomic bool tagging_has_paths;

/* Call these after the program's call has succeeded. */
void tagging_bound(int fd, const struct sockaddr *addr, socklen_t len);
void tagging_listening(int fd, int backlog);
void tagging_opened(int fd, int dir, const char *path, int flags);
void tagging_memfd(int fd, const char *name);
void tagging_dup_noted(int from, int to);

static inline void tagging_dup(int from, int to)
{
	if (unlikely(tagging_remembers(from)) || unlikely(pending_any(from)) || unlikely(tagging_remembers(to)))
		tagging_dup_noted(from, to);
}

void tagging_socket_connected(int fd, const struct sockaddr *addr); /* a client's socket: not kept */

/*
 * Hides a descriptor of ours in the program, as an orphan whose name has this prefix: it survives a program that closes
 * all numbers that it does not know. Holding the guard.
 */
#define TAGGING_HIDDEN "carried:"
void tagging_hide(const char *name, int fd);

/*
 * The number is about to be closed or overwritten: drops its records. Returns false if it is hidden and must stay open.
 */
bool tagging_let_go(int fd);

static inline bool tagging_closing(int fd)
{
	return likely(!tagging_remembers(fd)) || tagging_let_go(fd);
}

/*
 * Returns the listener at this number, or, in a child, the one that it closed there: connections that were accepted on
 * it still refer to it. NULL: neither.
 */
const struct entry *tagging_listener(int fd);

/* The listener of a connection whose listener is only in another process (drain/scm_recv.h). */
enum { TAGGING_REMOTE = -2 };

/*
 * Finds a listener by name: the first in the table, or one that this process, a worker, has closed. NULL: there is
 * none. Holding the guard.
 */
const struct entry *tagging_listener_named(const char *name);

/* The kernel gave out this number: an entry for it is outdated, since it was closed unseen. */
void tagging_forget(int fd);

static inline void tagging_fresh(int fd)
{
	if (unlikely(tagging_remembers(fd)))
		tagging_forget(fd);
}

/* The program will use this number (dup2): moves an orphan there to another one. */
void tagging_make_way(int fd);

/*
 * Before a list or a state: drops entries whose object has changed, and marks what is kept. Holding the guard.
 * `unseen`: for descriptors of the API it only checks that they are open. The next generation then checks them, and the
 * state must say so. Not while other threads run: a number closed after this check would be missing there, or be
 * another object's.
 */
void tagging_check_all(bool unseen);

/* Moves all notes (fd/pending.h) into the table: a drain must know every listener. */
void tagging_resolve(void);

/*
 * Returns how many connections wait in a TCP listener's queue, or how many bytes in a datagram socket's; -1 if the
 * kernel does not tell.
 */
int tagging_queue(const struct entry *e);

/* Returns the limit of a TCP listener's queue; -1 if the kernel does not tell. */
int tagging_queue_limit(const struct entry *e);

/* Is this clean path only another name for a descriptor of a process? */
static inline bool tagging_is_fd_path(const char *path)
{
	return !strncmp(path, "/proc/", 6) || !strncmp(path, "/dev/fd/", 8);
}

#endif
