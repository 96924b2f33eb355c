/* SPDX-License-Identifier: MIT */
/*
 * From the program's calls to the table: what was bound, opened, duplicated, closed. Any signal handler may call these;
 * all keep errno.
 */
#ifndef CPR_FD_TAGGING_H
#define CPR_FD_TAGGING_H

#include "fd/conn.h"
#include "process/guard.h"
#include "fd/pending.h"

#include <string.h>

/* May the table know this number? One load or two, no lock. */
static inline bool tagging_knows(int fd)
{
	return cpr__table && table_tracks(cpr__table, fd);
}

/* Are there orphans? While there are none, no call of the program costs more than this. */
static inline bool tagging_orphans(void)
{
	return cpr__table && table_orphans(cpr__table);
}

/* Is this number ours to the program, that is: not open? An orphan, handed over and not claimed. */
bool tagging_is_hidden(int fd);

static inline bool tagging_hidden(int fd)
{
	return unlikely(tagging_orphans()) && tagging_is_hidden(fd);
}

/* Is anything remembered of this number: as a connection, as bound, in the table? */
static inline bool tagging_remembers(int fd)
{
	return unlikely(conn_at(fd) != NULL) || pending_is_fleeting(fd) || unlikely(tagging_knows(fd));
}

/* Was a socket ever bound to a path here? */
extern _Atomic bool tagging_has_paths;

/* The program called these, and they succeeded. */
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

void tagging_socket_connected(int fd, const struct sockaddr *addr); /* a client's socket: not to be kept */

/*
 * A descriptor of ours that lives in the program, as an orphan of a name with this prefix: the program may close
 * everything that it does not know, and this is not there for it. Holding the guard.
 */
#define TAGGING_HIDDEN "carried:"
void tagging_hide(const char *name, int fd);

/* The number is about to be closed (or overwritten): forgets it. False: it is hidden, and must stay open. */
bool tagging_let_go(int fd);

static inline bool tagging_closing(int fd)
{
	return likely(!tagging_remembers(fd)) || tagging_let_go(fd);
}

/*
 * The listener at this number, or, in a child, the one that it closed there: connections that were accepted on it are
 * still known by it. NULL: neither.
 */
const struct entry *tagging_listener(int fd);

/* The listener of a connection whose listener only another process has (drain/scm_recv.h). */
enum { TAGGING_REMOTE = -2 };

/*
 * By what it is called: the first of its name, or one that this process, a worker, has closed. NULL: there is none.
 * Holding the guard.
 */
const struct entry *tagging_listener_named(const char *name);

/* The kernel gave this number out: what the table believed of it was closed behind our back. */
void tagging_forget(int fd);

static inline void tagging_fresh(int fd)
{
	if (unlikely(tagging_remembers(fd)))
		tagging_forget(fd);
}

/* The program wants this number for itself (dup2): an orphan there moves elsewhere. */
void tagging_make_way(int fd);

/*
 * Before a list or a state: drops what is no longer what it was, marks what is kept. Holding the guard. `unseen`: of
 * what the API saved, only whether it is open: the next generation will look what it is, and the state must say so. Not
 * while other threads go on: what is closed after the look would be missing there, and its number another's.
 */
void tagging_check_all(bool unseen);

/* What is only noted so far (fd/pending.h) goes into the table: before a drain, which must know every listener. */
void tagging_resolve(void);

/*
 * How many wait in a TCP listener's queue to be accepted, or how many bytes in a datagram socket's; -1 if the kernel
 * does not say.
 */
int tagging_queue(const struct entry *e);

/* How many may wait in a TCP listener's queue; -1 if the kernel does not say. */
int tagging_queue_limit(const struct entry *e);

/* Is this clean path only another name for what a process has open? */
static inline bool tagging_is_fd_path(const char *path)
{
	return !strncmp(path, "/proc/", 6) || !strncmp(path, "/dev/fd/", 8);
}

#endif
